"""Streams and lists over a failover, and over a server that is killed: what was confirmed is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.properties import Ack, Action, Get, Put, Restart, workloads
from pytest_redisq.queues import BoundQueue, Delivery, ReliableList, Stream, StreamGroup
from pytest_redisq.servers import Server, start
from tests.support import eventually, local

#: Each example kills a server and waits for another.
FEW = settings(max_examples=max(4, settings().max_examples // 40))
GROUP = StreamGroup("s", "g", claim_idle_seconds=60.0)
WAIT_MS = 10_000


class Pair(NamedTuple):
    """A primary and its replica, both empty and joined."""

    primary: Server
    replica: Server

    def join(self) -> None:
        for server in self:
            server.revive()
        where = urlsplit(self.primary.url)
        with self.primary.client() as first, self.replica.client() as second:
            second.replicaof(where.hostname, where.port)  # type: ignore[arg-type]
            first.flushall()
            eventually(lambda: self.replica.info("replication")["master_link_status"] == "up", 20)
            assert first.wait(1, WAIT_MS) == 1


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    primary = start(local())
    password = primary.config("requirepass")
    replica = start(local(server_args=("--masterauth", password, "--repl-diskless-sync-delay", "0")))
    primary.config("repl-diskless-sync-delay", 0)
    yield Pair(primary, replica)
    for server in (primary, replica):
        server.stop()


def ids_in(client: redis.Redis) -> list[str]:
    entries: Any = client.xrange("s")
    return [entry_id.decode() for entry_id, _ in entries]


def taken(end: BoundQueue, count: int) -> list[Delivery]:
    """At most `count` that come without waiting."""
    found = []
    while len(found) < count and (delivery := end.get(0)) is not None:
        found.append(delivery)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("primary_dies", [True, False], ids=["the primary dies", "the network splits"])
@given(confirmed=st.integers(0, 8), hoped=st.integers(0, 8), seen=st.integers(0, 16), acked=st.integers(0, 16))
@FEW
def test_a_failover_loses_at_most_what_the_replica_had_not_got(
    pair: Pair, primary_dies: bool, confirmed: int, hoped: int, seen: int, acked: int
) -> None:
    """Writes that WAIT confirmed survive, only the last ones are lost, and a reader goes on after its last entry."""
    pair.join()
    with (
        pair.primary.client() as old,
        Stream("s", after="0").bind(old) as writer,
        GROUP.bind(old, "worker") as worker,
    ):
        worker.subscribe()
        added = [str(writer.put(b"%d" % number)) for number in range(confirmed)]
        held = taken(worker, acked)
        for delivery in held:
            assert worker.ack(delivery)
        assert old.wait(1, WAIT_MS) == 1
        if not primary_dies:
            promote(pair.replica)
        added += [str(writer.put(b"%d" % number)) for number in range(confirmed, confirmed + hoped)]
        read = [str(delivery.id) for delivery in taken(writer, seen)]
    if primary_dies:
        pair.primary.kill()
        promote(pair.replica)
    with pair.replica.client() as new:
        there = ids_in(new)
        assert there == added[: len(there)]
        assert confirmed <= len(there)
        assert primary_dies or len(there) == confirmed
        with Stream("s", after=read[-1] if read else "0").bind(new) as reader, GROUP.bind(new, "heir") as heir:
            assert [str(d.id) for d in taken(reader, 99)] == [entry for entry in there if entry not in read]
            # What was acknowledged in time does not come again; all the rest that is there does.
            assert [str(d.id) for d in taken(heir, 99)] == there[len(held) :]


def promote(replica: Server) -> None:
    with replica.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")


@pytest.fixture(scope="module")
def durable() -> Iterator[Server]:
    server = start(local(persistence="aof"))
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("queue", [ReliableList("s", lease_seconds=60.0), GROUP], ids=["ReliableList", "StreamGroup"])
@given(actions=workloads(workers=1, max_actions=12, of=[Put, Put, Get, Ack, Restart]))
@FEW
def test_a_killed_server_with_aof_has_all_that_it_had_confirmed(
    durable: Server, queue: Any, actions: list[Action]
) -> None:
    """Each SIGKILL at a moment when nothing is under way: what waits, what is held and what is gone is as before."""
    with durable.client() as client:
        client.flushall()
        waiting, held = list[bytes](), list[Delivery]()
        end = queue.bind(client, "worker")
        end.subscribe()
        for number, action in enumerate([*actions, Restart()]):
            match action:
                case Put():
                    waiting.append(b"%d" % number)
                    end.put(waiting[-1])
                case Get():
                    delivery = end.get(0)
                    assert (delivery and delivery.body) == (waiting.pop(0) if waiting else None)
                    held += [delivery] if delivery else []
                case Ack(nth=nth) if held:
                    assert end.ack(held.pop(nth % len(held)))
                case Restart():
                    end = restarted(durable, queue, client, end)
                case _:
                    pass
            assert end.remaining() == waiting
            assert sorted(end.pending()) == sorted(delivery.body for delivery in held)
        end.close()


def restarted(server: Server, queue: Any, client: redis.Redis, end: BoundQueue) -> BoundQueue:
    """The worker under its old name, on the server as it is after a SIGKILL."""
    server.kill()
    end.close()
    server.restart()
    client.connection_pool.disconnect()
    bound: BoundQueue = queue.bind(client, "worker")
    return bound
