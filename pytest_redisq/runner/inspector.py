"""The runner's own end of the queue: how much is inside, and getting it out once the workers have stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from redis.exceptions import RedisError

from pytest_redisq import interrupts
from pytest_redisq.endpoint.blocking_endpoint import BlockingEndpoint
from pytest_redisq.endpoint.drivers import drive
from pytest_redisq.endpoint.event_loop import LoopThread
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.forms import EndpointFactory, Form, form_of
from pytest_redisq.endpoint.operation_record import HistoryRecord
from pytest_redisq.endpoint.workload import WorkloadContext, consume
from pytest_redisq.history import Recorder
from pytest_redisq.model import Kind, Message, decode_body


class QueueInspector:
    """Blocks until it is answered, or cut off, also where the queue has coroutine functions. Opened when first asked.

    * `factory`: opens its endpoint.
    * `run`: the id of the run.
    * `wait_seconds`: how long a `get` waits.
    * `is_async`: whether the queue has coroutine functions.
    """

    def __init__(self, factory: EndpointFactory, *, run: str, wait_seconds: float, is_async: bool) -> None:
        self._factory = factory
        self._run = run
        self._wait_seconds = wait_seconds
        self._fence = Fence()
        self._loop = LoopThread("redisq-inspector") if is_async else None

    @property
    def able(self) -> bool:
        """Whether there is an end to be had: not where the consumers are commands."""
        return form_of(self._factory.queue, is_producer=False) is not Form.COMMAND

    def counts(self) -> bool:
        """Whether the queue can say what is inside."""
        return self.able and self._endpoint.lists

    def is_empty(self) -> bool:
        """Whether nothing is inside, as far as the server could be asked."""
        try:
            return not self._endpoint.listed("remaining") and not self._endpoint.listed("pending")
        except RedisError:
            return False

    def recover(self) -> None:
        """Have what dead workers held given back, where the queue has that as a method."""
        self._endpoint.call("recover")

    def inside(self, what: str) -> list[Message]:
        """This run's messages among the queue's `remaining` or `pending`."""
        if not self.counts():
            return []
        found = (decode_body(self._run, body) for body in self._endpoint.listed(what))
        return [message for message in found if message is not None]

    def drain(self, recorder: Recorder) -> None:
        """Get, and acknowledge, until nothing more comes or an operation fails."""
        record = HistoryRecord(recorder, "drain", self._run, receives=Kind.DRAIN)
        context = _DrainContext(record, wait_seconds=self._wait_seconds)
        drive(consume(context, self._endpoint), self._endpoint.perform)

    @contextmanager
    def cut_off_after(self, seconds: float) -> Iterator[None]:
        """What waits for the server for so long, in the block, gets a ConnectionError, and so does all that follows."""
        timer = threading.Timer(max(0.0, seconds), self._endpoint.cut_off)
        with interrupts.cleared_up() as held:
            with interrupts.deferred():
                timer.start()
                held.callback(timer.join)
                held.callback(timer.cancel)
            yield

    def close(self) -> None:
        if "_endpoint" in vars(self):
            self._endpoint.close()
        if self._loop is not None:
            self._loop.close()

    @cached_property
    def _endpoint(self) -> BlockingEndpoint:
        return BlockingEndpoint(self._factory, "drain", fence=self._fence, loop=self._loop)


class _DrainContext(WorkloadContext):
    """A drain ends when nothing more comes, or after an operation that failed."""

    def __init__(self, record: HistoryRecord, *, wait_seconds: float) -> None:
        super().__init__(record)
        self._wait_seconds = wait_seconds

    @property
    def wait_seconds(self) -> float:
        return self._wait_seconds

    def over(self, *, idle: bool) -> bool:
        return idle or self.failed
