"""One worker of any queue, moved by hand: it puts, gets, acknowledges, stops and dies when a property says so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from pytest_redisq.endpoint.event_loop import LoopThread
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.forms import EndpointFactory, QueueEndpoint
from pytest_redisq.endpoint.workload import ReceivedMessage
from pytest_redisq.queues import Stopped
from pytest_redisq.queues.protocol import ListsMessages
from pytest_redisq.servers import Address


class ManualWorker:
    """A worker's end of `queue` (whatever `runner.run` takes), on a client of its own. A context manager.

    Any thread may move it. `is_async`: its methods are coroutine functions, and run in an event loop of this worker's.
    """

    def __init__(self, queue: Any, address: Address, *, is_async: bool = False) -> None:
        self._fence = Fence()
        self._is_async = is_async
        self._loop = LoopThread("redisq-manual-worker") if is_async else None
        factory = EndpointFactory(queue=queue, address=address, client=None, client_names="")
        # Of a pair of functions each has an end of its own.
        is_pair = isinstance(queue, tuple)
        self._taker = self._do(
            lambda: QueueEndpoint(factory, "manual", is_producer=False, is_async=is_async, fence=self._fence)
        )
        self._putter = (
            self._do(lambda: QueueEndpoint(factory, "manual", is_producer=True, is_async=is_async, fence=self._fence))
            if is_pair
            else self._taker
        )
        self._do(self._taker.subscribe)

    @property
    def acknowledges(self) -> bool:
        """Whether the queue has an `ack`."""
        return bool(self._taker.acknowledges)

    @property
    def stops(self) -> bool:
        """Whether the queue has a `stop`."""
        return callable(getattr(self._taker.queue, "stop", None))

    def put(self, body: bytes) -> None:
        self._do(lambda: self._putter.put_async(body) if self._is_async else self._putter.put(body))

    def get(self, wait_seconds: float) -> ReceivedMessage | None:
        taker = self._taker
        got: ReceivedMessage | None = self._do(
            lambda: taker.get_async(wait_seconds) if self._is_async else taker.get(wait_seconds)
        )
        return got

    def ack(self, received: ReceivedMessage) -> Any:
        return self._do(lambda: self._taker.ack(received.delivery))

    def inside(self, *, handed_out: bool = True) -> list[bytes] | None:
        """What is in the queue, that which is `handed_out` too if asked for; None where it does not tell."""
        queue = self._taker.queue
        if not isinstance(queue, ListsMessages):
            return None
        return [*self._do(queue.remaining), *(self._do(queue.pending) if handed_out else ())]

    def stop(self) -> None:
        self._do(self._taker.stop)

    def all_within(self, seconds: float, count: int) -> Iterator[ReceivedMessage]:
        """What comes, each at most `seconds` after the one before, until there are `count`."""
        for _ in range(count):
            received = self.get(seconds)
            if received is None:
                return
            yield received

    def crash(self) -> None:
        """Die: nothing that this worker still does reaches the server."""
        self._do(self._fence.close)
        self.close()

    def close(self) -> None:
        for endpoint in {self._taker, self._putter}:
            with contextlib.suppress(OSError, Stopped) if self._fence.shut else contextlib.nullcontext():
                self._do(endpoint.close_async if self._is_async else endpoint.close)
        if self._loop is not None:
            self._loop.close()

    def _do(self, act: Callable[[], Any]) -> Any:
        """What `act` comes to; in this worker's loop, if it has one."""
        return act() if self._loop is None else self._loop.do(act)

    def __enter__(self) -> ManualWorker:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._fence.shut:
            self.close()
