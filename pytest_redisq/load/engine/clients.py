"""Who does what on a connection, without IO: an client gives requests and takes replies, and keeps the books.

The same clients run in both engines, one connection each. These loops run a hundred thousand times a second: what looks
inlined here is, on purpose.
"""

from __future__ import annotations

import struct
from typing import Any, Protocol, TypeGuard

from pytest_redisq.load.codec import MAX_SEQUENCE, BodyCodec, key_of
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.resp import encode_command

_STAMP = struct.Struct("<Q")
_RESIDUE = 0x2144DF1C
#: How long a consumer that does not block waits when it found nothing, in nanoseconds.
PAUSE_NS = 1_000_000


class LoadClient(Protocol):
    """One connection's work.

    `name` is what Locust's statistics call its requests; each gets `replies` replies. One that is no error goes to
    `reply`, which returns a latency (ns) where it knows better than the engine: of a message got by a blocking pop,
    from push to pop; 0 for "the time from request to reply"; None for none (a pop that came back empty).
    """

    name: str
    replies: int
    #: Whether its requests enqueue messages, and are therefore sent at the pace asked for. Its replies say nothing.
    producing: bool
    #: Whether its requests may wait in the server, so that it must be unblocked in order to end.
    blocking: bool

    def request(self, now_ns: int) -> bytes | bytearray:
        """The next request. What was returned before may be overwritten by it."""

    def reply(self, reply: Any, now_ns: int) -> int | None: ...

    def refuse(self, at: int) -> None:
        """The reply to the request's `at`-th command (from 0) was an error: certainly nothing was done."""

    def connection_lost(self, at: int) -> None:
        """The connection broke before the reply to the `at`-th command had come: of it and the rest nobody knows."""

    def has_unacked(self) -> bool:
        """Whether it may not end yet, since something it took is not acknowledged."""

    def pause_ns(self) -> int:
        """How long to wait before the next request."""


class OwnQueueClient(Protocol):
    """One user's work on a queue that speaks to the server by itself; only the engine of Locust users can do it."""

    name: str
    producing: bool

    def turn(self) -> int | None:
        """Put or get one message. Returns a latency as `LoadClient.reply` does. Raises the queue's errors."""

    def close(self) -> None: ...


def is_own_queue_client(work: LoadClient | OwnQueueClient) -> TypeGuard[OwnQueueClient]:
    """Whether it is not an client. By one attribute, since it is asked of each of ten thousand."""
    return hasattr(work, "turn")


class PushClient:
    """Enqueues one message after the other, `pipeline` of them a request, by any command that ends with the body."""

    __slots__ = ("_broken_off", "_count", "_first", "_ledger", "_number", "_write", "name", "replies")
    producing = True
    blocking = False

    def __init__(
        self,
        ledger: Ledger,
        codec: BodyCodec,
        producer: int,
        command: tuple[str | int, ...],
        *,
        name: str,
        pipeline: int = 1,
    ) -> None:
        self.name = name
        self.replies = pipeline
        self._ledger = ledger
        self._number = producer
        self._write = codec.batch_writer(*around(command, codec.payload_bytes), pipeline)
        self._first = key_of(producer, 0)
        self._count = 0

    @property
    def sent(self) -> int:
        return self._count

    def request(self, now_ns: int) -> bytearray:
        count = self._count
        self._count = count + self.replies
        if self._count > MAX_SEQUENCE:
            raise OverflowError(f"producer {self._number} has sent {MAX_SEQUENCE} messages; start another")
        return self._write(self._first + count, now_ns)

    def reply(self, reply: Any, now_ns: int) -> int:  # noqa: ARG002
        return 0

    def refuse(self, at: int) -> None:
        self._ledger.fail(self._number, self._count - self.replies + at)

    def connection_lost(self, at: int) -> None:
        self._ledger.forget(self._number, self._count - self.replies + at, self.replies - at)

    def has_unacked(self) -> bool:
        return False

    def pause_ns(self) -> int:
        return 0

    def settle(self) -> None:
        """Write into the books how many were attempted."""
        self._ledger.attempted[self._number] = self._count


class RepeatingClient:
    """Sends the same request for ever, `pipeline` times at once: what a benchmark does, and no message is involved."""

    __slots__ = ("_request", "name", "replies")
    producing = True
    blocking = False

    def __init__(self, command: tuple[str | int | bytes, ...], *, name: str, pipeline: int = 1) -> None:
        self.name = name
        self.replies = pipeline
        self._request = encode_command(command) * pipeline

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        return self._request

    def reply(self, reply: Any, now_ns: int) -> int:  # noqa: ARG002
        return 0

    def refuse(self, at: int) -> None: ...

    def connection_lost(self, at: int) -> None: ...

    def has_unacked(self) -> bool:
        return False

    def pause_ns(self) -> int:
        return 0


def around(command: tuple[str | int, ...], payload_bytes: int) -> tuple[bytes, bytes]:
    r"""The request that is `command` and then a body of so many bytes, without the body.

    >>> around(("RPUSH", "k"), 5)
    (b'*3\r\n$5\r\nRPUSH\r\n$1\r\nk\r\n$5\r\n', b'\r\n')
    """
    head, _, tail = encode_command([*command, b"\0" * payload_bytes]).rpartition(b"\0" * payload_bytes)
    return head, tail
