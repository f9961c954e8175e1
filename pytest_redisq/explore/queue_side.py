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
    """Opens one side of a queue, to put or to get, on an actor's client; `is_async`: its functions are coroutines."""

    open: Callable[[Any], Any]
    is_async: bool

    def sleep(self, seconds: float) -> Any:
        """Sleep in virtual time; the result is awaitable if `is_async`."""
        return asyncio.sleep(seconds) if self.is_async else time.sleep(seconds)


def queue_side(queue: Any, verb: str, is_async: bool | None) -> QueueSide:
    """The side of a queue that has `verb` ("put" or "get"); `queue` and `is_async` as for `World.producer`.

    Raises `TypeError` for an object that is not a queue, or whose commands would not pass through the proxy.
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
            f"{queue!r} cannot be explored: each actor needs the queue on a client of its own. Pass an object with "
            "bind(client), a class or function of a client that returns an object with put(body), "
            "get(timeout_seconds) and optionally ack(delivery), or a pair (produce, consume) of functions of a client."
        )
    return QueueSide(opener, inspect.iscoroutinefunction(function) if is_async is None else is_async)
