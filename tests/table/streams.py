"""Correct queues of streams, sorted sets and sets, as people write them; saboteurs are made of them by one change."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import redis

from pytest_redisq.queues import Delivery
from tests.table.lists import LEASE_SECONDS, polled


def entry(found: Any) -> Delivery | None:
    """The first entry of an XREAD's or XREADGROUP's reply."""
    items = list(found.items()) if isinstance(found, dict) else list(found or [])
    entries = items[0][1] if items else []
    while entries and isinstance(entries[0], list):  # RESP3 puts each stream's entries in a list of their own
        entries = entries[0]
    return delivery(entries[0]) if entries else None


def delivery(pair: Any) -> Delivery:
    return Delivery(body=pair[1][b"body"], id=pair[0].decode())


class Group:
    """XADD, XREADGROUP and XACK; XAUTOCLAIM takes over what has been idle for too long."""

    idle_ms = int(LEASE_SECONDS * 1000)
    noack = False
    start = "0"

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = f"worker-{client.incr('names')}"
        self.make()

    def make(self) -> None:
        with contextlib.suppress(redis.ResponseError):
            self.client.xgroup_create("events", "workers", self.start, mkstream=True)

    def put(self, body: bytes) -> Any:
        return self.client.xadd("events", {"body": body})

    def get(self, timeout_seconds: float) -> Any:
        return self.claimed() or self.read(timeout_seconds)

    def claimed(self) -> Delivery | None:
        entries = self.client.xautoclaim("events", "workers", self.name, self.idle_ms, "0-0", count=1)[1]
        return delivery(entries[0]) if entries else None

    def read(self, timeout_seconds: float) -> Delivery | None:
        block = max(int(timeout_seconds * 1000), 1)
        found = self.client.xreadgroup("workers", self.name, {"events": ">"}, count=1, block=block, noack=self.noack)
        return entry(found)

    def ack(self, received: Delivery) -> Any:
        return bool(self.client.xack("events", "workers", received.id))


class GroupByXclaim(Group):
    """XPENDING with IDLE, and XCLAIM."""

    def claimed(self) -> Delivery | None:
        for each in self.client.xpending_range("events", "workers", "-", "+", 1, idle=self.idle_ms):
            for pair in self.client.xclaim("events", "workers", self.name, self.idle_ms, [each["message_id"]]):
                return delivery(pair)
        return None


class GroupThatDeletes(Group):
    """What is acknowledged leaves the stream."""

    def ack(self, received: Delivery) -> Any:
        with self.client.pipeline() as pipe:
            acked = pipe.xack("events", "workers", received.id).xdel("events", received.id).execute()[0]
        return bool(acked)


class GroupThatLooksBack(Group):
    """A consumer takes its own pending entries first, as after a restart under its old name."""

    looked = False

    def get(self, timeout_seconds: float) -> Any:
        if not self.looked:
            self.looked = True
            own = entry(self.client.xreadgroup("workers", self.name, {"events": "0"}, count=1))
            if own is not None:
                return own
        return super().get(timeout_seconds)


class GroupWithoutAcks(Group):
    """NOACK: at most once."""

    noack = True
    ack = None  # type: ignore[assignment]

    def get(self, timeout_seconds: float) -> Any:
        return self.read(timeout_seconds)


class BoundedGroup(Group):
    """MAXLEN, far above what there ever is."""

    def put(self, body: bytes) -> Any:
        return self.client.xadd("events", {"body": body}, maxlen=100_000, approximate=True)


class Reader:
    """Each reader gets every entry: XREAD from the last one that there was when it began."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.last: Any = "0-0"

    def subscribe(self) -> None:
        with contextlib.suppress(redis.ResponseError):
            self.last = self.client.xinfo_stream("events")["last-generated-id"]

    def put(self, body: bytes) -> Any:
        return self.client.xadd("events", {"body": body})

    def get(self, timeout_seconds: float) -> Any:
        found = entry(self.client.xread({"events": self.last}, count=1, block=max(int(timeout_seconds * 1000), 1)))
        if found is not None:
            self.last = found.id
        return found


class Scheduler:
    """ZADD with the time at which a message is due; the consumer that removes it has it."""

    delay_seconds = 0.05

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.zadd("due", {body: time.time() + self.delay_seconds})

    def get(self, timeout_seconds: float) -> Any:
        return polled(self._take, timeout_seconds)

    def _take(self) -> Any:
        for body in self.client.zrangebyscore("due", "-inf", time.time(), start=0, num=5):
            if self.client.zrem("due", body):
                return body
        return None


TAKE = """
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)
if found[1] then redis.call('ZREM', KEYS[1], found[1]) end
return found[1]
"""


class ScriptedScheduler(Scheduler):
    """The same in one script."""

    def _take(self) -> Any:
        return self.client.eval(TAKE, 1, "due", time.time())


LEASE = """
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)
if found[1] then redis.call('ZADD', KEYS[1], ARGV[2], found[1]) end
return found[1]
"""


class Leased(Scheduler):
    """A message stays, and is due again when its lease is over; the ack removes it."""

    delay_seconds = 0.0

    def _take(self) -> Any:
        now = time.time()
        return self.client.eval(LEASE, 1, "due", now, now + LEASE_SECONDS)

    def ack(self, body: bytes) -> Any:
        return bool(self.client.zrem("due", body))


class CountedOrder(Scheduler):
    """BZPOPMIN by a counter: in order."""

    def put(self, body: bytes) -> None:
        self.client.zadd("due", {body: self.client.incr("count")})

    def get(self, timeout_seconds: float) -> Any:
        popped = self.client.bzpopmin(["due"], timeout_seconds or 0.01)
        return popped and popped[1]


class PopsFromSet:
    """SADD and SPOP: in no order."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.sadd("jobs", body)

    def get(self, timeout_seconds: float) -> Any:
        return polled(lambda: self.client.spop("jobs"), timeout_seconds)


class HashAndIndex(PopsFromSet):
    """Bodies in a hash; HDEL says which consumer has won."""

    def put(self, body: bytes) -> None:
        self.client.hset("bodies", self.client.incr("index"), body)

    def get(self, timeout_seconds: float) -> Any:
        return polled(self._take, timeout_seconds)

    def _take(self) -> Any:
        for name, body in self.client.hscan("bodies", count=10)[1].items():
            if self.client.hdel("bodies", name):
                return body
        return None


class AsyncGroup:
    """A group by asyncio."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = ""

    async def put(self, body: bytes) -> Any:
        return await self.client.xadd("events", {"body": body})

    async def get(self, timeout_seconds: float) -> Any:
        self.name = self.name or f"worker-{await self.client.incr('names')}"
        with contextlib.suppress(redis.ResponseError):
            await self.client.xgroup_create("events", "workers", "0", mkstream=True)
        idle_ms = int(LEASE_SECONDS * 1000)
        claimed = (await self.client.xautoclaim("events", "workers", self.name, idle_ms, "0-0", count=1))[1]
        if claimed:
            return delivery(claimed[0])
        block = max(int(timeout_seconds * 1000), 1)
        return entry(await self.client.xreadgroup("workers", self.name, {"events": ">"}, count=1, block=block))

    async def ack(self, received: Delivery) -> Any:
        return bool(await self.client.xack("events", "workers", received.id))
