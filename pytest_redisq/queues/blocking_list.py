"""A job queue on a Redis list with RPUSH and BLPOP. At most once: a worker that dies loses its job."""

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
    """Jobs in the list `key`. Idle workers wait in BLPOP, so they start and stop without delay.

        jobs = BlockingList("jobs", urgent=("jobs:urgent",))
        with jobs.bind(client) as worker:
            worker.put(b"...")
            job = worker.get(5)

    Guarantee: *at most once*, first in first out. Each job goes to one worker and leaves the server at that moment. So
    it is lost if the worker dies before the work is done, or if the connection breaks before the reply arrives (`get`
    then raises; the outcome is unknown). If no job may be lost, use `ReliableList`.

    * `key`: the list that `put` adds to.
    * `urgent`: lists that are served before `key`, the most urgent first; default: none.
    """

    key: str = field(kw_only=False)
    urgent: tuple[str, ...] = ()

    @overload
    def bind(self, client: redis.Redis, /, worker: str | None = None) -> BoundQueue: ...
    @overload
    def bind(self, client: redis.asyncio.Redis, /, worker: str | None = None) -> AsyncBoundQueue: ...
    def bind(self, client: Any, /, worker: str | None = None) -> Any:  # noqa: ARG002  no job is kept under its name
        """This queue on `client`, for one worker."""
        return attach(self, BlockingListEndpoint(self), client)


class BlockingListEndpoint:
    """The logic of one worker, without IO."""

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

    def ack(self, delivery: Delivery) -> Steps[bool]:  # noqa: ARG002  the job left the server when it was delivered
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
    """The timeout argument of a blocking list command. There, 0 means no limit, and servers before 7.0 round less than
    a millisecond down to 0.
    """
    return 0 if timeout_seconds is None else max(timeout_seconds, 0.001)
