"""An event loop beside the caller's own, if that has one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pytest_redisq.endpoint.forms import awaited

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True

#: How long what still runs may take to end once it is cancelled, in seconds.
_GRACE_SECONDS = 2.0


class LoopThread:
    """An event loop in a thread of its own, to which other threads give work: also those in which a loop is running."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def do(self, act: Callable[[], Any]) -> Any:
        async def acting() -> Any:
            result: Awaitable[Any] | Any = act()
            return await awaited(result)

        return asyncio.run_coroutine_threadsafe(acting(), self._loop).result()

    def close(self) -> None:
        """Also twice. What still runs in it is cancelled."""
        if self._loop.is_closed():
            return
        with suppress(TimeoutError):  # of one that takes no cancellation, which must not keep everybody waiting
            asyncio.run_coroutine_threadsafe(_end_the_others(), self._loop).result(_GRACE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_GRACE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()


async def _end_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
