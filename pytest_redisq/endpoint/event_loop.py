"""An event loop beside the caller's own, if that has one."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Any

from pytest_redisq import interrupts
from pytest_redisq.endpoint.forms import awaited

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True

#: How long what still runs may take to end once it is cancelled, in seconds.
_GRACE_SECONDS = 2.0


class LoopThread:
    """An event loop in a thread of its own, to which other threads give work: also those in which a loop is running.

    The thread starts with the first work: then the object has an owner that closes it, whenever Ctrl-C comes. No lock
    of `threading.Condition` is used, unlike in a `Future`: Ctrl-C could leave the lock locked, and the loop would then
    wait for ever.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def do(self, act: Callable[[], Any], seconds: float | None = None) -> Any:
        """Call `act` in the loop, and return its result, or what its coroutine returns.

        Raises its error; `TimeoutError` if it has not ended within `seconds` (None: no limit), and cancels it.
        """
        done: queue.SimpleQueue[asyncio.Task[Any]] = queue.SimpleQueue()
        begun: list[asyncio.Task[Any]] = []

        async def acting() -> Any:
            result: Awaitable[Any] | Any = act()
            return await awaited(result)

        def begin() -> None:
            begun.append(asyncio.create_task(acting()))
            begun[0].add_done_callback(done.put)

        self.do_soon(begin)
        try:
            return done.get(timeout=seconds).result()
        except queue.Empty:
            self.do_soon(lambda: begun[0].cancel())
            raise TimeoutError from None

    def do_soon(self, act: Callable[[], object]) -> None:
        """Call `act` in the loop, without waiting for it."""
        with interrupts.deferred() if self._thread is None else nullcontext():
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
        self._loop.call_soon_threadsafe(act)

    @property
    def closed(self) -> bool:
        """Whether nothing runs in it."""
        return self._loop is None or self._loop.is_closed()

    def close(self) -> None:
        """Also twice. What still runs in it is cancelled. What blocks the loop keeps it from being `closed`."""
        if self._loop is None or self._thread is None or self._loop.is_closed():
            return
        with suppress(TimeoutError):  # of one that takes no cancellation, which must not keep everybody waiting
            self.do(_end_the_others, _GRACE_SECONDS)
        self.do_soon(self._loop.stop)
        self._thread.join(_GRACE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()


async def _end_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
