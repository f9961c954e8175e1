"""The interface of a queue: `put`, `get`, `ack`, and some optional methods.

Any object with `put` and `get` is a queue. The queues in this package have all the methods below.

Outcomes: a method that returns has done what it says. After a connection or timeout error the outcome is *unknown*.
Queues never retry by themselves: a retried push may add a message twice, and a retried pop may lose a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


class Stopped(Exception):  # noqa: N818  not an error: it ends a loop, like StopIteration
    """Raised by `get` after `stop` was called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message as a worker received it.

    * `body`: the bytes that were put.
    * `id`: the queue's id for the message, such as a stream ID; None if the queue has no ids.
    * `delivery_count`: 1 for the first delivery; always 1 if the queue does not count deliveries.
    * `source`: the key that the message was taken from.
    """

    body: bytes
    id: str | None = None
    delivery_count: int = 1
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Entries of a stream that were trimmed before this reader had read them.

    * `after_id`, `before_id`: the entries were between these ids. `before_id` is None if no entry is left after them.
    * `entries`: how many there were.
    * `exact`: whether `entries` is exact; if not, it is a lower bound.
    """

    after_id: str
    before_id: str | None
    entries: int
    exact: bool


@runtime_checkable
class Queue(Protocol):
    """The methods that producers and consumers need.

    `put` adds a message. It returns the message's id, or None if the queue has no ids.

    `get` returns the next message, or None if none arrived in time. It raises `Stopped` after `stop`. Its
    `timeout_seconds` has Python's meaning, not Redis's: None (the default) waits without limit, 0 does not wait.
    """

    def put(self, body: bytes, /) -> str | None: ...

    def get(self, timeout_seconds: float | None = None, /) -> Delivery | None: ...


@runtime_checkable
class AsyncQueue(Protocol):
    """A `Queue` whose methods are coroutine functions."""

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
    """A queue that can list the bodies of its messages. The checker needs them to tell a lost message from a kept one.

    * `remaining`: the messages that are not delivered yet.
    * `pending`: the messages that are delivered, and neither acknowledged nor given back.
    """

    def remaining(self) -> Any: ...

    def pending(self) -> Any: ...


@runtime_checkable
class Closes(Protocol):
    """A queue that has connections or threads to release."""

    def close(self) -> Any: ...
