"""Queues as users write them, right and wrong, at the top level, so that they can be sent to processes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio

KEY = "jobs"


class Plain:
    """RPUSH and BLPOP: correct as long as no worker dies."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush(KEY, body)

    def get(self, timeout_seconds: float) -> bytes | None:
        popped: Any = self.client.blpop([KEY], timeout=timeout_seconds)
        return None if popped is None else popped[1]


class Hasty(Plain):
    """A message counts as acknowledged when BLPOP delivers it, before any work."""

    def ack(self, body: bytes) -> bool:  # noqa: ARG002 - it has left the server
        return True


class Reliable(Plain):
    """BLMOVE to a processing list, and LREM as acknowledgement; `recover` gives everything back."""

    def get(self, timeout_seconds: float) -> bytes | None:
        return self.client.blmove(KEY, f"{KEY}:processing", timeout_seconds, "LEFT", "RIGHT")  # type: ignore[no-any-return]

    def ack(self, body: bytes) -> bool:
        return bool(self.client.lrem(f"{KEY}:processing", 1, body))

    def remaining(self) -> list[bytes]:
        return self.client.lrange(KEY, 0, -1)

    def pending(self) -> list[bytes]:
        return self.client.lrange(f"{KEY}:processing", 0, -1)

    def recover(self) -> None:
        while self.client.lmove(f"{KEY}:processing", KEY, "LEFT", "RIGHT"):
            pass


class Forgetful(Reliable):
    """A reliable list without recovery."""

    recover = None  # type: ignore[assignment]


class Dropping(Plain):
    """Loses each hundredth message, and says that it has it."""

    def put(self, body: bytes) -> None:
        if self.client.incr(f"{KEY}:count") % 100 != 7:
            super().put(body)


class Doubling(Plain):
    def put(self, body: bytes) -> None:
        super().put(body)
        if self.client.incr(f"{KEY}:count") % 100 == 7:
            super().put(body)


class Inventing(Plain):
    def put(self, body: bytes) -> None:
        super().put(body)
        if self.client.incr(f"{KEY}:count") % 100 == 7:
            super().put(b"a body of nobody")


class LastInFirstOut(Plain):
    def put(self, body: bytes) -> None:
        self.client.lpush(KEY, body)


class Raising(Plain):
    """A bug in the consumer."""

    def get(self, timeout_seconds: float) -> bytes | None:
        raise ZeroDivisionError(f"after {timeout_seconds} s")


class Leaving(Plain):
    """A producer that ends as a program does."""

    def put(self, body: bytes) -> None:  # noqa: ARG002
        sys.exit("no more today")


class Peeking(Plain):
    """A get that looks, and does not take."""

    def get(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        return self.client.lindex(KEY, 0)  # type: ignore[return-value]


class Hanging(Plain):
    """A consumer that waits without end."""

    def get(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        return super().get(0)


class Spinning(Plain):
    """A consumer that never comes back, and not because of the server."""

    def get(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        while True:
            time.monotonic()


class Vanishing(Plain):
    """A process that ends without a word."""

    def get(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        os._exit(3)


class Refused(Plain):
    """Puts that the server refuses (a list command on a string), each second one. Each put sends one command."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        client.set(f"{KEY}:text", "text")
        self.accepts = True

    def put(self, body: bytes) -> None:
        self.accepts = not self.accepts
        if self.accepts:
            super().put(body)
        else:
            self.client.rpush(f"{KEY}:text", body)


class AsyncPlain:
    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def put(self, body: bytes) -> None:
        await self.client.rpush(KEY, body)  # type: ignore[misc]

    async def get(self, timeout_seconds: float) -> bytes | None:
        popped: Any = await self.client.blpop([KEY], timeout=timeout_seconds)  # type: ignore[misc]
        return None if popped is None else popped[1]


class HalfAsync(AsyncPlain):
    def get(self, timeout_seconds: float) -> bytes | None:  # type: ignore[override]
        time.sleep(timeout_seconds)
        return None


class AsyncRaising(AsyncPlain):
    async def get(self, timeout_seconds: float) -> bytes | None:
        raise ZeroDivisionError(f"after {timeout_seconds} s")


class AsyncLeaving(AsyncPlain):
    async def put(self, body: bytes) -> None:  # noqa: ARG002
        sys.exit("no more today")


class AsyncCancelling(AsyncPlain):
    """Cancels a task without a request."""

    async def put(self, body: bytes) -> None:  # noqa: ARG002
        raise asyncio.CancelledError("no more today")


class AsyncHanging(AsyncPlain):
    async def get(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        return await super().get(0)


class Shared:
    """One object for all workers, with no client of theirs; each copy makes one of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._queue: Plain | None = None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Shared, (self.url,)

    def _mine(self) -> Plain:
        if self._queue is None:
            self._queue = Plain(redis.Redis.from_url(self.url, socket_timeout=None))
        return self._queue

    def put(self, body: bytes) -> None:
        self._mine().put(body)

    def get(self, timeout_seconds: float) -> bytes | None:
        return self._mine().get(timeout_seconds)

    def free(self) -> None:
        if self._queue is not None:
            self._queue.client.close()


def produce(client: redis.Redis, body: bytes) -> None:
    client.rpush(KEY, body)


def consume(client: redis.Redis, timeout_seconds: float) -> bytes | None:
    return Plain(client).get(timeout_seconds)


async def produce_async(client: redis.asyncio.Redis, body: bytes) -> None:
    await client.rpush(KEY, body)  # type: ignore[misc]


async def consume_async(client: redis.asyncio.Redis, timeout_seconds: float) -> bytes | None:
    return await AsyncPlain(client).get(timeout_seconds)


def main(role: str, url: str) -> None:
    """The same as command lines: see `pytest_redisq.endpoint.subprocess_workers`."""
    queue = Plain(redis.Redis.from_url(url, socket_timeout=None))
    if role == "produce":
        for line in sys.stdin.buffer:
            queue.put(line.rstrip(b"\n"))
            print("ok", flush=True)
        return
    os.set_blocking(0, False)
    while sys.stdin.buffer.read(1) != b"":
        body = queue.get(0.1)
        print(json.dumps(None if body is None else body.decode()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
