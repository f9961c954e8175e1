"""A job queue on a Redis list: RPUSH and BLPOP. At most once: a worker that dies loses the job it held."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, overload

import redis
import redis.asyncio

from pytest_redisq.queues.bound import AsyncBoundQueue, BoundQueue, attach
from pytest_redisq.queues.protocol import Delivery, Gap
from pytest_redisq.queues.steps import RedisCommand, Steps, command, nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockingList:
    """Jobs in the list `key`; idle workers wait in BLPOP, start at once, and stop at once.

        jobs = BlockingList("jobs", urgent=("jobs:urgent",))
        with jobs.bind(client) as worker:
            worker.put(b"...")
            job = worker.get(5)

    Guarantee: *at most once*, first in first out. Each job goes to one worker. It leaves the server as it is handed
    out, so it is lost when the worker dies holding it, and when the connection breaks while the reply is on its way
    (`get` then raises: unknown outcome). If that may not be, use `ReliableList`.

    `urgent`: keys that are served before `key`, the most urgent first; `put` adds to `key`.
    """

    key: str = field(kw_only=False)
    urgent: tuple[str, ...] = ()

    @overload
    def bind(self, client: redis.Redis, /, worker: str | None = None) -> BoundQueue: ...
    @overload
    def bind(self, client: redis.asyncio.Redis, /, worker: str | None = None) -> AsyncBoundQueue: ...
    def bind(self, client: Any, /, worker: str | None = None) -> Any:  # noqa: ARG002  no job is kept under its name
        """A worker's end of this queue."""
        return attach(self, _BlockingListEndpoint(self), client)


class _BlockingListEndpoint:
    beat_seconds: float | None = None

    def __init__(self, queue: BlockingList) -> None:
        self._queue = queue
        self._keys = (*queue.urgent, queue.key)

    def put(self, body: bytes) -> Steps[str | None]:
        yield command("RPUSH", self._queue.key, body)
        return None

    def subscribe(self) -> Steps[None]:
        return nothing(None)

    def get(self, timeout_seconds: float | None) -> Steps[Delivery | None]:
        if timeout_seconds is not None and timeout_seconds <= 0:
            return (yield from self._get_now())
        reply = yield RedisCommand(("BLPOP", *self._keys, redis_timeout(timeout_seconds)), timeout_seconds)
        return None if reply is None else Delivery(body=reply[1], source=reply[0].decode())

    def _get_now(self) -> Steps[Delivery | None]:
        for key in self._keys:
            body = yield command("LPOP", key)
            if body is not None:
                return Delivery(body=body, source=key)
        return None

    def ack(self, delivery: Delivery) -> Steps[bool]:  # noqa: ARG002  it left the server when it was handed out
        return nothing(True)

    def give_back(self, delivery: Delivery) -> Steps[None]:
        yield command("LPUSH", delivery.source, delivery.body)

    def recover(self) -> Steps[int]:
        return nothing(0)

    def remaining(self) -> Steps[list[bytes]]:
        bodies: list[bytes] = []
        for key in self._keys:
            bodies += yield command("LRANGE", key, 0, -1)
        return bodies

    def pending(self) -> Steps[list[bytes]]:
        return nothing([])

    def trimmed(self) -> Steps[list[Gap]]:
        return nothing([])

    def beat(self) -> Steps[None]:
        return nothing(None)

    def leave(self) -> Steps[None]:
        return nothing(None)


def redis_timeout(timeout_seconds: float | None) -> float:
    """As a blocking list command takes it: 0 is for ever there, and less than a millisecond was rounded to it before
    7.0.
    """
    return 0 if timeout_seconds is None else max(timeout_seconds, 0.001)
