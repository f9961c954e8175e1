"""One queue, sync and async, that run, explore and load drive; and the same with a mistake in it.

The correct ones are reliable lists by LMOVE: a message stays in a processing list until it is acknowledged.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import Any

from pytest_redisq.model import Message

KEY, HELD = "orders", "orders:held"


class Orders:
    """LMOVE to a processing list, and LREM as acknowledgement."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush(KEY, body)

    def get(self, timeout_seconds: float) -> bytes | None:
        body: bytes | None = self.client.lmove(KEY, HELD, "LEFT", "RIGHT")
        if body is None:
            time.sleep(min(timeout_seconds, 0.02))
        return body

    def ack(self, body: bytes) -> bool:
        return bool(self.client.lrem(HELD, 1, body))

    def remaining(self) -> list[bytes]:
        return list(self.client.lrange(KEY, 0, -1))

    def pending(self) -> list[bytes]:
        return list(self.client.lrange(HELD, 0, -1))


class Misplaces(Orders):
    """The saboteur: the ack of about half of the messages says that it was done, and does nothing."""

    def ack(self, body: bytes) -> bool:
        return super().ack(body) if is_spared(body) else True


class Drops(Orders):
    """The saboteur: takes about half of the messages out and hands them to no consumer."""

    def get(self, timeout_seconds: float) -> bytes | None:
        body = super().get(timeout_seconds)
        if body is None or is_spared(body):
            return body
        self.client.lrem(HELD, 1, body)
        return super().get(timeout_seconds)


class GivesBack(Orders):
    """The correct twin for work that fails: the message goes back to the end of the list."""

    def nack(self, body: bytes) -> None:
        with self.client.pipeline() as pipeline:
            pipeline.lrem(HELD, 1, body).rpush(KEY, body).execute()


class Retries(Orders):
    """Tries a message three times. Then it is dead-lettered, if the queue has a list for such messages, or given up."""

    dead: str | None = "orders:dead"

    def nack(self, body: bytes) -> None:
        last = self.client.hincrby("orders:attempts", str(zlib.crc32(body)), 1) == 3
        target = self.dead if last else KEY
        self.client.lrem(HELD, 1, body)
        if target is not None:
            self.client.rpush(target, body)


class GivesUp(Retries):
    dead = None


class Pops(Orders):
    """Pops a message before the work: without acks, what fails is gone."""

    ack = None  # type: ignore[assignment]

    def get(self, timeout_seconds: float) -> bytes | None:
        body: bytes | None = self.client.lpop(KEY)
        if body is None:
            time.sleep(min(timeout_seconds, 0.02))
        return body


class Leases:
    """A sorted set by the end of each message's lease, which is half a minute long."""

    SECONDS = 30

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.zadd(KEY, {body: 0})

    def get(self, timeout_seconds: float) -> bytes | None:
        now = time.time()
        for body in self.client.zrangebyscore(KEY, 0, now, 0, 1):
            if self.client.zadd(KEY, {body: now + self.SECONDS}, xx=True, ch=True):
                return bytes(body)
        time.sleep(timeout_seconds)
        return None

    def ack(self, body: bytes) -> bool:
        return bool(self.client.zrem(KEY, body))


class LongLeases(Leases):
    SECONDS = 120


class AsyncOrders:
    """The same in coroutines."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def put(self, body: bytes) -> None:
        await self.client.rpush(KEY, body)

    async def get(self, timeout_seconds: float) -> bytes | None:
        body: bytes | None = await self.client.lmove(KEY, HELD, "LEFT", "RIGHT")
        if body is None:
            await asyncio.sleep(min(timeout_seconds, 0.02))
        return body

    async def ack(self, body: bytes) -> bool:
        return bool(await self.client.lrem(HELD, 1, body))

    async def remaining(self) -> list[bytes]:
        return list(await self.client.lrange(KEY, 0, -1))

    async def pending(self) -> list[bytes]:
        return list(await self.client.lrange(HELD, 0, -1))


class AsyncDrops(AsyncOrders):
    async def get(self, timeout_seconds: float) -> bytes | None:
        body = await super().get(timeout_seconds)
        if body is None or is_spared(body):
            return body
        await self.client.lrem(HELD, 1, body)
        return await super().get(timeout_seconds)


class AsyncGivesBack(AsyncOrders):
    async def nack(self, body: bytes) -> None:
        await self.client.lrem(HELD, 1, body)
        await self.client.rpush(KEY, body)


def fails(message: Message) -> None:
    """Work that raises on one message, however often it is tried."""
    if message.sequence == 1:
        raise ValueError("no such order")


async def fails_async(message: Message) -> None:
    fails(message)


def is_spared(body: bytes) -> bool:
    """Whether the saboteur does right by this message: half of them, by the bytes of the body."""
    return sum(body) % 2 == 0
