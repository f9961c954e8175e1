"""How an actor opens its side of a queue, to put or to get, on its own client."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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
        opener: Callable[[Any], Any] = lambda client: _FunctionEndpoint(function, client, verb)  # noqa: E731
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


class _FunctionEndpoint:
    """One of a pair of functions, with the actor's client."""

    def __init__(self, function: Callable[..., Any], client: Any, verb: str) -> None:
        setattr(self, verb, lambda value: function(client, value))


def body_of(delivery: Any) -> bytes:
    body = delivery if isinstance(delivery, (bytes, str)) else getattr(delivery, "body", None)
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes):
        return body
    raise TypeError(f"get() returned {delivery!r}: it is to return None, the body, or an object with a `body`")


def ids_of(answer: Any) -> tuple[str, ...]:
    """The id that a queue gives to a message; a number (such as a list's length) is none."""
    if isinstance(answer, bytes):
        return (answer.decode(),)
    return (answer,) if isinstance(answer, str) else ()
