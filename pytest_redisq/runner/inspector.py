"""The runner's own end of the queue: how much is inside, and getting it out once the workers have stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError

from pytest_redisq import interrupts
from pytest_redisq.endpoint.event_loop import LoopThread
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.forms import EndpointFactory, QueueEndpoint, message_of
from pytest_redisq.endpoint.jobs import ConsumerJob
from pytest_redisq.endpoint.subprocess_workers import Command
from pytest_redisq.history import Recorder
from pytest_redisq.model import UNREADABLE, Kind, Message, decode_body
from pytest_redisq.queues import Stopped


class QueueInspector:
    """Blocks until it is answered, or cut off, whatever the colour of the queue. Opened when first asked."""

    def __init__(self, factory: EndpointFactory, job: ConsumerJob, *, is_async: bool) -> None:
        self._factory = factory
        self._job = job
        self._is_async = is_async
        self._endpoint: QueueEndpoint | None = None
        self._fence = Fence()
        self._loop = LoopThread("redisq-inspector") if is_async else None

    @property
    def able(self) -> bool:
        """Whether there is an end to be had: not where the consumers are commands."""
        return not (isinstance(self._factory.queue, tuple) and isinstance(self._factory.queue[1], Command))

    def counts(self) -> bool:
        """Whether the queue can say what is inside."""
        return self.able and self._has("remaining") and self._has("pending")

    def is_empty(self) -> bool:
        """Whether nothing is inside, as far as the server could be asked."""
        try:
            return not self._ask("remaining") and not self._ask("pending")
        except RedisError:
            return False

    def recover(self) -> None:
        """Have what dead workers held given back, where the queue has that as a method."""
        if self._has("recover"):
            self._ask("recover")

    def inside(self, what: str) -> list[Message]:
        """This run's messages among the queue's `remaining` or `pending`."""
        if not self.counts():
            return []
        found = (decode_body(self._job.run, body) for body in self._ask(what))
        return [message for message in found if message is not None]

    def drain(self, recorder: Recorder) -> None:
        """Get, and acknowledge, until nothing more comes."""
        while True:
            token = recorder.invoke(self._job.name, Kind.DRAIN)
            try:
                delivery = self._ask("get", self._job.wait_seconds)
            except Stopped:
                delivery = None
            except RedisError as error:
                recorder.info(token, f"{type(error).__name__}: {error}")
                return
            received = message_of(delivery)
            if received is None:
                recorder.ok(token, ())
                return
            message = decode_body(self._job.run, received.body) or UNREADABLE
            recorder.ok(token, (message,), () if received.id is None else (received.id,))
            if self._has("ack"):
                self._ask("ack", delivery)

    @contextmanager
    def cut_off_after(self, seconds: float) -> Iterator[None]:
        """What waits for the server for so long, in the block, gets a ConnectionError, and so does all that follows."""
        timer = threading.Timer(max(0.0, seconds), self._do, [self._fence.close])
        with interrupts.cleared_up() as held:
            with interrupts.deferred():
                timer.start()
                held.callback(timer.join)
                held.callback(timer.cancel)
            yield

    def close(self) -> None:
        if self._endpoint is not None:
            self._do(self._endpoint.close_async if self._is_async else self._endpoint.close)
        if self._loop is not None:
            self._loop.close()

    def _queue(self) -> Any:
        if self._endpoint is None:
            self._endpoint = self._do(
                lambda: QueueEndpoint(
                    self._factory, self._job.name, is_producer=False, is_async=self._is_async, fence=self._fence
                )
            )
        return self._endpoint.queue

    def _has(self, method: str) -> bool:
        return callable(getattr(self._queue(), method, None))

    def _ask(self, method: str, *args: Any) -> Any:
        ask = getattr(self._queue(), method)
        return self._do(lambda: ask(*args))

    def _do(self, act: Callable[[], Any]) -> Any:
        """What `act` comes to; in the loop, if there is one."""
        return act() if self._loop is None else self._loop.do(act)
