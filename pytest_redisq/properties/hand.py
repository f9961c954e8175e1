"""One worker of any queue, moved by hand: it puts, gets, acknowledges, stops and dies when a property says so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from pytest_redisq.queues import Stopped
from pytest_redisq.queues.protocol import Counts
from pytest_redisq.servers import Address
from pytest_redisq.traffic.ends import End, Gate, Source
from pytest_redisq.traffic.loop import Loop
from pytest_redisq.traffic.plan import ConsumerJob, ProducerJob
from pytest_redisq.traffic.steps import Receipt


class Hand:
    """A worker's end of `queue` (whatever `traffic.run` takes), on a client of its own. A context manager.

    Any thread may move it. `is_async`: its methods are coroutine functions, and run in an event loop of this worker's.
    """

    def __init__(self, queue: Any, address: Address, *, is_async: bool = False) -> None:
        self._gate = Gate()
        self._is_async = is_async
        self._loop = Loop("redisq-hand") if is_async else None
        source = Source(queue=queue, address=address, client=None, client_names="")
        # Of a pair of functions each has an end of its own.
        is_pair = isinstance(queue, tuple)
        self._taker = self._do(lambda: End(source, _TAKES, is_async=is_async, gate=self._gate))
        self._putter = (
            self._do(lambda: End(source, _PUTS, is_async=is_async, gate=self._gate)) if is_pair else self._taker
        )
        self._do(self._taker.subscribe)

    @property
    def acknowledges(self) -> bool:
        """Whether the queue has an `ack`."""
        return bool(self._taker.acknowledges)

    @property
    def stops(self) -> bool:
        """Whether the queue has a `stop`."""
        return callable(getattr(self._taker.itself, "stop", None))

    def put(self, body: bytes) -> None:
        self._do(lambda: self._putter.put_async(body) if self._is_async else self._putter.put(body))

    def get(self, wait_seconds: float) -> Receipt | None:
        taker = self._taker
        got: Receipt | None = self._do(
            lambda: taker.get_async(wait_seconds) if self._is_async else taker.get(wait_seconds)
        )
        return got

    def ack(self, receipt: Receipt) -> Any:
        return self._do(lambda: self._taker.ack(receipt.itself))

    def inside(self, *, handed_out: bool = True) -> list[bytes] | None:
        """What is in the queue, that which is `handed_out` too if asked for; None where it does not tell."""
        end = self._taker.itself
        if not isinstance(end, Counts):
            return None
        return [*self._do(end.remaining), *(self._do(end.pending) if handed_out else ())]

    def stop(self) -> None:
        self._do(self._taker.stop)

    def all_within(self, seconds: float, count: int) -> Iterator[Receipt]:
        """What comes, each at most `seconds` after the one before, until there are `count`."""
        for _ in range(count):
            receipt = self.get(seconds)
            if receipt is None:
                return
            yield receipt

    def crash(self) -> None:
        """Die: nothing that this worker still does reaches the server."""
        self._do(self._gate.close)
        self.close()

    def close(self) -> None:
        for end in {self._taker, self._putter}:
            with contextlib.suppress(OSError, Stopped) if self._gate.shut else contextlib.nullcontext():
                self._do(end.close_async if self._is_async else end.close)
        if self._loop is not None:
            self._loop.close()

    def _do(self, act: Callable[[], Any]) -> Any:
        """What `act` comes to; in this worker's loop, if it has one."""
        return act() if self._loop is None else self._loop.do(act)

    def __enter__(self) -> Hand:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._gate.shut:
            self.close()


_TAKES = ConsumerJob(name="hand", slot=0, run="", wait_seconds=0)
_PUTS = ProducerJob(name="hand", slot=0, run="", producer=0, producers=1, messages=0, payload=0, pace=None)
