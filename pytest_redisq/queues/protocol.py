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
    """`get` has nothing to return, and never will again: `stop` was called."""


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

    `timeout_seconds` is as in Python, not as in Redis: None waits for ever, 0 does not wait.
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
    """The queue keeps a message until it is told that the work is done.

    True: the queue forgot it on our word. False: it was no longer ours, and somebody else gets it or has got it.
    """

    def ack(self, delivery: Delivery, /) -> Any: ...


@runtime_checkable
class GivesBack(Protocol):
    """The work was not done: let somebody have the message again, at once or when its idle time is over."""

    def give_back(self, delivery: Delivery, /) -> Any: ...


@runtime_checkable
class Subscribes(Protocol):
    """Begin now: once this has returned, whatever is put will be got. The first `get` does it where nobody has."""

    def subscribe(self) -> Any: ...


@runtime_checkable
class Stops(Protocol):
    """Makes a blocked `get` return or raise `Stopped` at once, from any thread or a signal handler, losing nothing."""

    def stop(self) -> Any: ...


@runtime_checkable
class Binds(Protocol):
    """The same queue, as a worker of its own on `client`: a sync client gives a sync queue, an asyncio one an async
    queue.
    """

    def bind(self, client: Any, /) -> Any: ...


@runtime_checkable
class Recovers(Protocol):
    """Gives the messages that dead workers held back to the living; returns how many."""

    def recover(self) -> Any: ...


@runtime_checkable
class Counts(Protocol):
    """What is still inside, for the question whether anything was lost: bodies, not numbers.

    `remaining`: nobody has taken them yet. `pending`: taken, and neither acknowledged nor given back.
    """

    def remaining(self) -> Any: ...

    def pending(self) -> Any: ...


@runtime_checkable
class Trims(Protocol):
    """Reports the entries that were thrown away before this reader saw them, as `Gap`s."""

    def trimmed(self) -> Any: ...


@runtime_checkable
class Closes(Protocol):
    """Gives back connections and threads."""

    def close(self) -> Any: ...
