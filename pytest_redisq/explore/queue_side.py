"""How an actor opens its side of a queue, to put or to get, on its own client."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pytest_redisq.endpoint.forms import FunctionEndpoint


@dataclass(frozen=True, slots=True)
class QueueSide:
    """How an actor gets its end of a queue, to put or to get, out of its own client; and whether of coroutines."""

    open: Callable[[Any], Any]
    is_async: bool

    def sleep(self, seconds: float) -> Any:
        """To be awaited where it is of coroutines."""
        return asyncio.sleep(seconds) if self.is_async else time.sleep(seconds)


def queue_side(queue: Any, verb: str, is_async: bool | None) -> QueueSide:
    """The half of a queue that has `verb` ("put" or "get").

    Raises `TypeError` for what is no queue, or is one whose commands would not pass by the schedule.
    """
    function: Any = None
    if isinstance(queue, tuple) and len(queue) == 2 and all(map(callable, queue)):
        function = queue[verb == "get"]
        opener: Callable[[Any], Any] = lambda client: FunctionEndpoint(function, client, is_producer=verb == "put")  # noqa: E731
    elif callable(getattr(queue, "bind", None)) and not isinstance(queue, type):
        opener = queue.bind
    elif callable(queue):
        function, opener = getattr(queue, verb, None), queue
    else:
        raise TypeError(
            f"{queue!r} cannot be explored: each actor needs an end of it on a client of its own. Give an object with "
            "bind(client), a function of a client (a class, say) that makes an object with put(body), "
            "get(timeout_seconds) and perhaps ack(delivery), or a pair (produce, consume) of functions of a client."
        )
    return QueueSide(opener, inspect.iscoroutinefunction(function) if is_async is None else is_async)
