"""One worker of any queue, moved by hand: it puts, gets, acknowledges, stops and dies when a property says so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from pytest_redisq.endpoint.blocking_endpoint import BlockingEndpoint
from pytest_redisq.endpoint.event_loop import LoopThread
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.forms import EndpointFactory, Gets
from pytest_redisq.endpoint.jobs import ClientFactory
from pytest_redisq.endpoint.operation_record import ReceivedMessage
from pytest_redisq.queues import Stopped
from pytest_redisq.servers import Address

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True


class ManualWorker:
    """A worker's end of `queue` (whatever `runner.run` takes), on a client of its own. A context manager.

    Any thread may move it. `is_async`: its methods are coroutine functions, and run in an event loop of this worker's.
    `client`, `gets`: as for `runner.run`.
    """

    def __init__(
        self,
        queue: Any,
        address: Address,
        *,
        is_async: bool = False,
        client: ClientFactory | None = None,
        gets: Gets = "client",
    ) -> None:
        self._fence = Fence()
        self._loop = LoopThread("redisq-manual-worker") if is_async else None
        self._factory = EndpointFactory(queue=queue, address=address, client=client, gets=gets)
        self._taker = self._open(is_producer=False)
        # Of a pair of functions each has an end of its own.
        self._putter = self._open(is_producer=True) if isinstance(queue, tuple) else self._taker
        self._taker.call("subscribe")

    def _open(self, *, is_producer: bool) -> BlockingEndpoint:
        return BlockingEndpoint(self._factory, "manual", is_producer=is_producer, fence=self._fence, loop=self._loop)

    @property
    def acknowledges(self) -> bool:
        """Whether the queue has an `ack`."""
        return self._taker.acknowledges

    @property
    def stops(self) -> bool:
        """Whether the queue has a `stop`."""
        return self._taker.has("stop")

    def put(self, body: bytes) -> None:
        self._putter.put(body)

    def get(self, wait_seconds: float) -> ReceivedMessage | None:
        return self._taker.get(wait_seconds)

    def ack(self, received: ReceivedMessage) -> Any:
        return self._taker.ack(received)

    def inside(self, *, handed_out: bool = True) -> list[bytes] | None:
        """What is in the queue, that which is `handed_out` too if asked for; None where it does not tell."""
        if not self._taker.lists:
            return None
        return [*self._taker.listed("remaining"), *(self._taker.listed("pending") if handed_out else ())]

    def stop(self) -> None:
        self._taker.call("stop")

    def all_within(self, seconds: float, count: int) -> Iterator[ReceivedMessage]:
        """What comes, each at most `seconds` after the one before, until there are `count`."""
        for _ in range(count):
            received = self.get(seconds)
            if received is None:
                return
            yield received

    def crash(self) -> None:
        """Die: nothing that this worker still does reaches the server."""
        self._taker.cut_off()
        self.close()

    def close(self) -> None:
        for endpoint in {self._taker, self._putter}:
            with contextlib.suppress(OSError, Stopped) if self._fence.shut else contextlib.nullcontext():
                endpoint.close()
        if self._loop is not None:
            self._loop.close()

    def __enter__(self) -> ManualWorker:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._fence.shut:
            self.close()
