"""The table of correct queues: public patterns, cured where they were broken. All of them pass."""

from __future__ import annotations

from tests.table import bounded, lists, streams
from tests.table.rows import Row

MOST, LEAST, EFFECTIVELY = "at-most-once", "at-least-once", "effectively-once"
DIES = {"faults": "kill:consumer@10"}
DIES_HOLDING = {"faults": "kill-holding:consumer@10"}
KILLED = {"faults": "kill", "schedules": 20}
#: More than a bound keeps, and faster than they are read.
MANY, FAST = {"messages": 500}, {"rate": ""}

TWINS = [
    Row(lists.Blpop, f"{MOST}, fifo", run=DIES, explore=KILLED),
    Row(lists.Brpop, f"{MOST}, fifo", run=DIES, explore=KILLED),
    Row(lists.LpopPolling, f"{LEAST}, fifo"),
    Row(lists.PriorityLists, LEAST),
    Row(lists.ShardedLists, MOST, run=DIES, explore=KILLED),
    Row(lists.BatchPop, MOST, run=DIES, explore=KILLED),
    Row(lists.TransactionalPut, f"{LEAST}, fifo"),
    Row(lists.BackPressure, LEAST),
    Row(lists.RateLimited, LEAST, explore={"schedules": 10}),
    Row(lists.BodiesBeside, MOST, run=DIES, explore=KILLED),
    Row(lists.PutOnce, LEAST, run={"faults": "drop:connections@10"}),
    Row(lists.Reliable, LEAST, run=DIES_HOLDING, explore=KILLED),
    Row(lists.ReliablePolling, LEAST, run=DIES_HOLDING, explore=KILLED),
    Row(lists.LeasedList, LEAST, run=DIES_HOLDING, drivers=("run", "load")),
    Row(lists.RetriesLater, LEAST, run=DIES_HOLDING, explore=KILLED),
    Row(lists.AsyncBlpop, f"{MOST}, fifo", run=DIES, explore=KILLED),
    Row(lists.AsyncReliable, LEAST, run=DIES_HOLDING, explore=KILLED),
    Row((lists.push, lists.pop), f"{MOST}, fifo", run=DIES, explore=KILLED, drivers=("run", "explore")),
    Row(streams.Group, EFFECTIVELY, run=DIES_HOLDING, explore=KILLED, load_contract=LEAST),
    Row(streams.GroupByXclaim, EFFECTIVELY, run=DIES_HOLDING, explore=KILLED, load_contract=LEAST),
    Row(streams.GroupThatDeletes, LEAST, run=DIES_HOLDING, explore=KILLED),
    Row(streams.GroupThatLooksBack, LEAST, run=DIES_HOLDING, explore=KILLED),
    Row(streams.GroupWithoutAcks, MOST, run=DIES, explore=KILLED),
    Row(streams.BoundedGroup, f"{LEAST}, bounded", run=DIES_HOLDING, explore=KILLED),
    Row(bounded.CappedList, f"{LEAST}, bounded", run=MANY, load=FAST, drivers=("load", "run")),
    Row(bounded.DeclaredList, f"{LEAST}, bounded", run=MANY, load=FAST, drivers=("run", "load")),
    Row(bounded.CappedStream, f"{LEAST}, bounded", run=MANY, load=FAST, drivers=("load", "run")),
    Row(bounded.CappedStreamWithoutIds, f"{LEAST}, bounded", run=MANY, load=FAST, drivers=("run", "load")),
    Row(streams.Reader, "fan-out, fifo", drivers=("run", "explore")),
    Row(streams.Scheduler, MOST, run=DIES, explore=KILLED),
    Row(streams.ScriptedScheduler, MOST, run=DIES, explore=KILLED),
    Row(streams.Leased, LEAST, run=DIES_HOLDING, drivers=("run", "load")),
    Row(streams.CountedOrder, LEAST),
    Row(streams.PopsFromSet, MOST, run=DIES, explore=KILLED),
    Row(streams.HashAndIndex, MOST, run=DIES, explore=KILLED),
    Row(streams.AsyncGroup, EFFECTIVELY, run=DIES_HOLDING, explore=KILLED, load_contract=LEAST),
]
