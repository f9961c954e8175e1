"""What a queue is to us: three methods, and a few more that a queue may have.

Any object with `put` and `get` will do; the queues supplied here have everything below.

The law of outcomes: a method that returns has done what it says. One that raises a connection or time-out error may
or may not have: the outcome is *unknown*, and nothing is retried behind the caller's back, for a retried push is a
message twice and a retried pop is a message lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


class Stopped(Exception):  # noqa: N818  no error: the way out of a loop, like StopIteration
    """Raised by `get` after `stop` was called: it returns no more messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message as a worker received it.

    `id` is the queue's own name for it (a stream ID), None where there is none. `delivery_count` counts from 1 where
    the queue counts deliveries, and stays 1 where it does not. `source` is the key it was taken from.
    """

    body: bytes
    id: str | None = None
    delivery_count: int = 1
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Entries of a stream that were trimmed before this reader had read them.

    They lay after `after_id` and before `before_id` (None: nothing is left after them). `entries` is how many there
    were, exact where `exact`, else the most that can be said: at least that many.
    """

    after_id: str
    before_id: str | None
    entries: int
    exact: bool


@runtime_checkable
class Queue(Protocol):
    """What a producer and a consumer need. `get` returns None when nothing came in time, and raises `Stopped` after
    `stop`.

    `timeout_seconds` is as in Python, not as in Redis: None waits without limit, 0 does not wait.
    """

    def put(self, body: bytes, /) -> str | None: ...

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None: ...


@runtime_checkable
class AsyncQueue(Protocol):
    """`Queue`, awaited."""

    async def put(self, body: bytes, /) -> str | None: ...

    async def get(self, timeout_seconds: float | None = None, /) -> Delivery | None: ...


@runtime_checkable
class Acknowledges(Protocol):
    """A queue that keeps each message until the consumer acknowledges it.

    `ack` returns True if the queue forgot the message because of this call. It returns False if the message was no
    longer this consumer's: another consumer gets it or has got it.
    """

    def ack(self, delivery: Delivery, /) -> Any: ...


@runtime_checkable
class ListsMessages(Protocol):
    """A queue that can list the bodies of the messages in it, so that a judge can look for lost ones.

    `remaining`: not delivered yet. `pending`: delivered, and neither acknowledged nor given back.
    """

    def remaining(self) -> Any: ...

    def pending(self) -> Any: ...


@runtime_checkable
class Closes(Protocol):
    """A queue that has connections or threads to release."""

    def close(self) -> Any: ...
