"""What is done to the server, and how to tell when it is over: one class per scenario, for either engine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import redis

from pytest_redisq.load.deliveries import GROUP, LIST, READER
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import (
    BlpopClient,
    LoadClient,
    LpopClient,
    RepeatingClient,
    XreadClient,
    XreadgroupClient,
)
from pytest_redisq.load.engine.worker_context import WorkerContext, in_order
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.scenarios.large_replies import LrangePayload
from pytest_redisq.load.scenarios.own_queue import OwnQueue, OwnQueueClient
from pytest_redisq.load.scenarios.scenario_settings import at_least_one
from pytest_redisq.load.scenarios.stream_burst import XaddBurst, behind, busy, entries_after, groups_of

__all__ = [
    "BlpopWorkers",
    "ListDrain",
    "LrangePayload",
    "MixedWorkload",
    "OwnQueue",
    "Scenario",
    "XaddBurst",
    "XaddFanout",
    "XaddGroup",
]

#: So many elements are looked at by one command when what is left is counted.
_LOOK = 1000


class Scenario(Protocol):
    """What producers and consumers do on keys of the run's own, and what is left of it at the end."""

    contract: str
    #: How many there are where nobody says.
    producers: int
    consumers: int

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:
        """Once, before anybody starts. Returns what it enqueued itself, if anything."""

    def producer(self, context: WorkerContext, index: int) -> LoadClient | OwnQueueClient: ...

    def consumer(self, context: WorkerContext, index: int) -> LoadClient | OwnQueueClient: ...

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        """How many messages consumers have still to get or to acknowledge; 0: drained."""

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        """The bodies that are left when everybody has ended, and that nobody has been given."""

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        """The bodies that some consumer has been given and has not acknowledged."""


@runtime_checkable
class ScenarioWithFigures(Protocol):
    """A scenario that has more to tell, while it runs, than how many messages are inside."""

    def watch(self, client: redis.Redis, assignment: Assignment) -> Mapping[str, int]:
        """By name; of each the highest that was seen becomes a figure of the run."""


@runtime_checkable
class ScenarioWithGroups(Protocol):
    """A scenario of `groups` that each get every message, perhaps beside readers who do."""

    groups: int

    def held(self, client: redis.Redis, assignment: Assignment) -> int:
        """How many messages groups have still to get or to acknowledge, each group's own."""


@runtime_checkable
class ScenarioWithTrimming(Protocol):
    """A scenario whose queue throws the oldest messages away."""

    def trimmed(self, client: redis.Redis, assignment: Assignment) -> int:
        """How many it has thrown away."""

    def kept(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        """The bodies that it still has, delivered or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlpopWorkers:
    """Jobs pushed to `queues` lists, and workers who wait in BLPOP on all of them."""

    contract: str = "effectively-once"
    producers: int = 10
    consumers: int = 100
    queues: int = 1

    def __post_init__(self) -> None:
        at_least_one(queues=self.queues)

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:  # noqa: ARG002
        return Ledger()

    def producer(self, context: WorkerContext, index: int) -> LoadClient:
        number = (context.assignment.first_producer + index) % self.queues
        return context.push_client(index, ("RPUSH", context.key(f"jobs:{number}")), name="RPUSH jobs")

    def consumer(self, context: WorkerContext, index: int) -> LoadClient:  # noqa: ARG002
        buffer = context.delivery_buffer(LIST.ordered(in_order(self.contract)))
        return BlpopClient(buffer, _jobs(context.assignment, self.queues), name="BLPOP jobs")

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        return sum(int(client.llen(key)) for key in _jobs(assignment, self.queues))

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        for key in _jobs(assignment, self.queues):
            yield from _elements(client, key)

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class XaddGroup:
    """Bursts of XADD, shared by the consumers of one group, who acknowledge what they get."""

    contract: str = "at-least-once"
    producers: int = 10
    consumers: int = 10

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:
        client.xgroup_create(assignment.key("stream"), "group", id="0", mkstream=True)
        return Ledger()

    def producer(self, context: WorkerContext, index: int) -> LoadClient:
        return context.push_client(index, ("XADD", context.key("stream"), "*", "b"), name="XADD stream")

    def consumer(self, context: WorkerContext, index: int) -> LoadClient:
        name = f"consumer-{context.assignment.first_consumer + index}"
        key = context.key("stream")
        buffer = context.delivery_buffer(GROUP.ordered(in_order(self.contract)))
        return XreadgroupClient(buffer, key, "group", name, name="XREADGROUP stream")

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        """0 where the group is gone, as the server was flushed: its consumers can get nothing more."""
        return sum(int(group["pending"]) + behind(client, assignment, group) for group in groups_of(client, assignment))

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        groups = groups_of(client, assignment)
        return entries_after(
            client, assignment.key("stream"), groups[0]["last-delivered-id"].decode() if groups else "0-0"
        )

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        key, last = assignment.key("stream"), "-"
        if not groups_of(client, assignment):
            return
        while entries := cast(list[Any], client.xpending_range(key, "group", min=last, max="+", count=_LOOK)):
            for entry in entries:
                for _, fields in cast(list[Any], client.xrange(key, entry["message_id"], entry["message_id"])):
                    yield fields[b"b"]
            last = f"({entries[-1]['message_id'].decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class XaddFanout:
    """Bursts of XADD, and readers who each get every entry."""

    contract: str = "fan-out"
    producers: int = 10
    consumers: int = 3

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:  # noqa: ARG002
        return Ledger()

    def producer(self, context: WorkerContext, index: int) -> LoadClient:
        return context.push_client(index, ("XADD", context.key("stream"), "*", "b"), name="XADD stream")

    def consumer(self, context: WorkerContext, index: int) -> LoadClient:
        reader = f"reader-{context.assignment.first_consumer + index}"
        coverage = READER._replace(from_start=True).ordered(in_order(self.contract))
        buffer = context.own_delivery_buffer(coverage, reader=reader)
        return XreadClient(buffer, context.key("stream"), name="XREAD stream")

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        """How many readers are not waiting for more: only they may have something still to get."""
        return busy(client, assignment)

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDrain:
    """A list that is drained by LPOP, `chunk` elements at a time, while others push to it."""

    contract: str = "effectively-once"
    producers: int = 10
    consumers: int = 2
    chunk: int = 1000

    def __post_init__(self) -> None:
        at_least_one(chunk=self.chunk)

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:  # noqa: ARG002
        return Ledger()

    def producer(self, context: WorkerContext, index: int) -> LoadClient:
        return context.push_client(index, ("RPUSH", context.key("list")), name="RPUSH list")

    def consumer(self, context: WorkerContext, index: int) -> LoadClient:  # noqa: ARG002
        buffer = context.delivery_buffer(LIST.ordered(in_order(self.contract)))
        return LpopClient(buffer, context.key("list"), name="LPOP list", count=self.chunk)

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        return int(client.llen(assignment.key("list")))

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return _elements(client, assignment.key("list"))

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedWorkload:
    """A job queue beside other people's work: each BLPOP worker has a neighbour who only reads and writes a key."""

    contract: str = "effectively-once"
    producers: int = 20
    consumers: int = 20

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:
        client.set(assignment.key("page"), b"x" * assignment.payload_bytes)
        return Ledger()

    def producer(self, context: WorkerContext, index: int) -> LoadClient:
        match index % 4:
            case 0:
                return RepeatingClient(("GET", context.key("page")), name="GET page")
            case 1:
                return RepeatingClient(
                    ("SET", context.key("page"), b"x" * context.assignment.payload_bytes), name="SET page"
                )
            case _:
                return _JOBS.producer(context, index)

    def consumer(self, context: WorkerContext, index: int) -> LoadClient:
        return _JOBS.consumer(context, index)

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        return _JOBS.backlog(client, assignment)

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return _JOBS.remaining(client, assignment)

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return _JOBS.pending(client, assignment)


_JOBS = BlpopWorkers()


def _jobs(assignment: Assignment, queues: int) -> tuple[str, ...]:
    return tuple(assignment.key(f"jobs:{number}") for number in range(queues))


def _elements(client: redis.Redis, key: str) -> Iterator[bytes]:
    for start in itertools.count(0, _LOOK):
        elements = cast(list[bytes], client.lrange(key, start, start + _LOOK - 1))
        if not elements:
            return
        yield from elements
