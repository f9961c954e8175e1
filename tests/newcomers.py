"""Queues as newcomers write them, without `remaining` or `pending`: right ones, and the same with nothing recovered.

Each lease is 30 s or longer: longer than any test waits.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

import redis
import redis.asyncio

LEASE_SECONDS = 30


class MovedList:
    """BLMOVE to a list of each worker. A worker whose key has expired is dead, and its list is given back."""

    recovers = True
    lease_seconds = LEASE_SECONDS

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.name = uuid.uuid4().hex[:6]

    def put(self, body: bytes) -> None:
        self.client.lpush("jobs", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        self.client.set(f"alive:{self.name}", 1, ex=self.lease_seconds)
        if self.recovers:
            self._recover_dead()
        client: Any = self.client  # redis-py's types know no fractions of a second
        moved = client.blmove("jobs", f"doing:{self.name}", timeout_seconds, "RIGHT", "LEFT")
        return None if moved is None else bytes(moved)

    def ack(self, body: bytes) -> None:
        self.client.lrem(f"doing:{self.name}", 1, body)  # type: ignore[arg-type]

    def _recover_dead(self) -> None:
        keys: Any = self.client.keys("doing:*")
        for key in map(bytes.decode, keys):
            if not self.client.exists(f"alive:{key.removeprefix('doing:')}"):
                while self.client.lmove(key, "jobs", "RIGHT", "RIGHT"):
                    pass


class AbandonedList(MovedList):
    """The same without a recovery."""

    recovers = False


class Entry:
    """An entry of a stream as a worker gets it."""

    def __init__(self, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        self.id, self.body = entry_id.decode(), fields[b"body"]


class AsyncGroup:
    """A stream's group by asyncio, which claims what has been pending for longer than a lease."""

    recovers = True
    lease_seconds = LEASE_SECONDS

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client
        self.name = uuid.uuid4().hex[:6]

    async def put(self, body: bytes) -> None:
        await self.client.xadd("orders", {"body": body})

    async def get(self, timeout_seconds: float) -> Entry | None:
        with contextlib.suppress(redis.ResponseError):
            await self.client.xgroup_create("orders", "billing", "0", mkstream=True)
        if self.recovers:
            claim: Any = await self.client.xautoclaim(
                "orders", "billing", self.name, self.lease_seconds * 1000, "0-0", count=1
            )
            if claim[1]:
                return Entry(*claim[1][0])
        block_ms = max(1, int(timeout_seconds * 1000))
        read: Any = await self.client.xreadgroup("billing", self.name, {"orders": ">"}, count=1, block=block_ms)
        return Entry(*read[0][1][0]) if read else None

    async def ack(self, entry: Entry) -> None:
        await self.client.xack("orders", "billing", entry.id)


class AbandonedGroup(AsyncGroup):
    """The same without a recovery."""

    recovers = False


class WeeklyGroup(AsyncGroup):
    """It claims what has been pending for a week."""

    lease_seconds = 7 * 86_400


class IdleConsumersGroup(AsyncGroup):
    """It claims what consumers hold that have been idle for a day."""

    recovers = False

    async def get(self, timeout_seconds: float) -> Entry | None:
        consumers: Any = await self.client.xinfo_consumers("orders", "billing") if await self.is_made() else ()
        for each in consumers:
            if each["idle"] > 86_400_000 and each["pending"]:
                held: Any = await self.client.xpending_range("orders", "billing", "-", "+", 1, each["name"])
                ids = [entry["message_id"] for entry in held]
                claimed: Any = await self.client.xclaim("orders", "billing", self.name, 0, ids)
                return Entry(*claimed[0])
        return await super().get(timeout_seconds)

    async def is_made(self) -> bool:
        try:
            return bool(await self.client.xinfo_groups("orders"))
        except redis.ResponseError:
            return False


class SilentGroup(AbandonedGroup):
    """The same whose handler fails for one message without a word: its `ack` returns, and sends no XACK."""

    async def ack(self, entry: Entry) -> None:
        if b" 0 1 " not in entry.body:
            await super().ack(entry)


# KEYS: ready, running  ARGV: seconds of the lease, whether leases that have run out are given back
_LEASE = """
local now = tonumber(redis.call('TIME')[1])
if ARGV[2] == '1' then
  for _, body in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
    redis.call('ZREM', KEYS[2], body)
    redis.call('ZADD', KEYS[1], 0, body)
  end
end
local first = redis.call('ZPOPMIN', KEYS[1])
if #first == 0 then return false end
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[1]), first[1])
return first[1]
"""


class LeasedSet:
    """Two sorted sets, and a lease by the server's time: the score of a running job says when it is given back."""

    recovers = True

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.zadd("ready", {body: 1})

    def get(self, timeout_seconds: float) -> bytes | None:
        leased: Any = self._lease()
        if leased is None:
            self.client.blpop(["nothing"], timeout=timeout_seconds)
            leased = self._lease()
        return None if leased is None else bytes(leased)

    def ack(self, body: bytes) -> None:
        self.client.zrem("running", body)

    def _lease(self) -> Any:
        return self.client.eval(_LEASE, 2, "ready", "running", LEASE_SECONDS, int(self.recovers))


class AbandonedSet(LeasedSet):
    """The same without a recovery."""

    recovers = False


class LongLease(LeasedSet):
    """Its leases are longer than an hour."""

    def _lease(self) -> Any:
        return self.client.eval(_LEASE, 2, "ready", "running", 7_200, 1)
