"""Scenarios on one stream: a consumer group, readers of every entry, and both at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from pytest_redisq.load.deliveries import GROUP, READER
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.consumer_clients import XreadClient, XreadgroupClient
from pytest_redisq.load.engine.load_context import LoadContext, in_order
from pytest_redisq.load.ledger import Ledger

#: Entries that one command reads when the rest of a stream is counted, and the most bytes of them.
_LOOK, _LOOK_BYTES = 1000, 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class XaddGroup:
    """Bursts of XADD, shared by the consumers of one group, which acknowledge the entries."""

    contract: str = "at-least-once"
    producers: int = 10
    consumers: int = 10

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:
        client.xgroup_create(assignment.key("stream"), "group", id="0", mkstream=True)
        return Ledger()

    def producer(self, context: LoadContext, index: int) -> LoadClient:
        return context.push_client(index, ("XADD", context.key("stream"), "*", "b"), name="XADD stream")

    def consumer(self, context: LoadContext, index: int) -> LoadClient:
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
    """Bursts of XADD, and readers that each receive every entry."""

    contract: str = "fan-out"
    producers: int = 10
    consumers: int = 3

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:  # noqa: ARG002
        return Ledger()

    def producer(self, context: LoadContext, index: int) -> LoadClient:
        return context.push_client(index, ("XADD", context.key("stream"), "*", "b"), name="XADD stream")

    def consumer(self, context: LoadContext, index: int) -> LoadClient:
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
class XaddBurst:
    """Bursts of XADD on one stream, read by groups and by readers of every entry. `--pipeline` is the size of a burst.

    The first `readers` consumers each read every entry. The others are spread over `groups`, each of which receives
    every entry. `maxlen` is the approximate bound of the stream (`MAXLEN ~`); 0: no bound. An entry that is trimmed
    before it was read is lost, unless the contract is `fan-out, bounded`.
    """

    contract: str = "fan-out"
    producers: int = 10
    consumers: int = 12
    readers: int = 2
    groups: int = 2
    maxlen: int = 0

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:
        for group in range(self.groups):
            client.xgroup_create(assignment.key("stream"), f"group-{group}", id="0", mkstream=True)
        return Ledger()

    def producer(self, context: LoadContext, index: int) -> LoadClient:
        bound: tuple[str | int, ...] = ("MAXLEN", "~", self.maxlen) if self.maxlen else ()
        return context.push_client(index, ("XADD", context.key("stream"), *bound, "*", "b"), name="XADD stream")

    def consumer(self, context: LoadContext, index: int) -> LoadClient:
        number, key = context.assignment.first_consumer + index, context.key("stream")
        if number < self.readers or not self.groups:
            coverage = READER._replace(from_start=True).ordered(in_order(self.contract))
            buffer = context.own_delivery_buffer(coverage, reader=f"reader-{number}")
            return XreadClient(buffer, key, name="XREAD stream")
        group = f"group-{(number - self.readers) % self.groups}"
        buffer = context.delivery_buffer(GROUP.ordered(in_order(self.contract)), reader=group)
        return XreadgroupClient(buffer, key, group, f"consumer-{number}", name="XREADGROUP stream")

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        """What groups have still to read and to acknowledge, and readers that are not waiting for more.

        Consumers of a group that is gone, as the server was flushed, wait for nothing.
        """
        groups = self._groups(client, assignment)
        held = sum(lag + pending for lag, pending in groups)
        return held + busy(client, assignment, but_for=() if len(groups) == self.groups else ("xreadgroup", "xack"))

    def held(self, client: redis.Redis, assignment: Assignment) -> int:
        return sum(lag + pending for lag, pending in self._groups(client, assignment))

    def watch(self, client: redis.Redis, assignment: Assignment) -> dict[str, int]:
        """How far the slowest group is behind, and how much all have been given and not acknowledged."""
        groups = self._groups(client, assignment)
        return {
            "lag": max((lag for lag, _ in groups), default=0),
            "pending": sum(pending for _, pending in groups),
        }

    def _groups(self, client: redis.Redis, assignment: Assignment) -> list[tuple[int, int]]:
        """How much each group has not been given, and how much it has and has not acknowledged."""
        return [(behind(client, assignment, group), int(group["pending"])) for group in groups_of(client, assignment)]

    def trimmed(self, client: redis.Redis, assignment: Assignment) -> int:
        """The number of entries that were removed; 0 if the server does not count them (before Redis 7.0)."""
        try:
            stream: dict[str, Any] = client.xinfo_stream(assignment.key("stream"))
        except redis.ResponseError as error:
            _only_missing(error)
            return 0
        return max(int(stream.get("entries-added", 0)) - int(stream["length"]), 0)

    def kept(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return entries_after(client, assignment.key("stream"), "0-0")

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        """None: groups are judged as readers are, by what they got."""
        return iter(())


def busy(client: redis.Redis, assignment: Assignment, but_for: Sequence[str] = ()) -> int:
    """Returns how many clients of the run are not blocked: only they may have something left to read.

    Clients whose last command is one of `but_for` do not count.
    """
    ours = [each for each in client.client_list() if each["name"] == assignment.client_name]
    return sum("b" not in each["flags"] and each["cmd"] not in but_for for each in ours)


def groups_of(client: redis.Redis, assignment: Assignment) -> list[dict[str, Any]]:
    """The groups of the run's stream; none where there is no stream, as before its first entry or after a flush."""
    try:
        groups: list[dict[str, Any]] = client.xinfo_groups(assignment.key("stream"))
    except redis.ResponseError as error:
        _only_missing(error)
        return []
    return groups


def _only_missing(error: redis.ResponseError) -> None:
    if "no such key" not in str(error):
        raise error


def entries_after(client: redis.Redis, key: str, after: str) -> Iterator[bytes]:
    """The bodies of a stream's entries whose ids are above `after`."""
    while entries := cast(list[tuple[bytes, Mapping[bytes, bytes]]], client.xrange(key, min=f"({after}", count=_LOOK)):
        yield from (fields[b"b"] for _, fields in entries)
        after = entries[-1][0].decode()


def behind(client: redis.Redis, assignment: Assignment, group: dict[str, Any]) -> int:
    """How many entries of the run's stream the group has not been given. They are counted where they are few, as the
    server does not always know; where they are many and it does not, it is at most so many.
    """
    key, last = assignment.key("stream"), group["last-delivered-id"].decode()
    look = max(1, min(_LOOK, _LOOK_BYTES // assignment.payload_bytes))
    entries = len(cast(list[Any], client.xrange(key, min=f"({last}", count=look)))
    if entries < look:
        return entries
    lag = group.get("lag")
    return max(int(client.xlen(key) if lag is None else lag), entries)
