"""What a connection of a load run does, without IO: a client gives requests, takes replies, and records what happened.

The same clients run in both engines, one on each connection. These functions run a hundred thousand times a second:
what looks inlined here is inlined on purpose.
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
    """Gives the requests of one connection and takes their replies.

    `name` is what Locust's statistics call the requests. Each request gets `replies` replies.
    """

    name: str
    replies: int
    #: Whether its requests enqueue messages: then they are sent at the rate asked for, and `reply` is not called.
    producing: bool
    #: Whether its requests may block in the server, so that the client must be unblocked to end.
    blocking: bool

    def request(self, now_ns: int) -> bytes | bytearray:
        """Returns the next request. It may overwrite what was returned before."""

    def reply(self, reply: Any, now_ns: int) -> int | None:
        """Take a reply that is no error. Returns a latency in nanoseconds.

        0 stands for the time from the request to the reply. None means that nothing was received, as by a pop that came
        back empty. A blocking pop returns the time from push to pop.
        """

    def refuse(self, at: int) -> None:
        """The reply to the request's `at`-th command (from 0) was an error: certainly nothing was done."""

    def connection_lost(self, at: int) -> None:
        """The connection broke before the reply to the `at`-th command: its outcome and the next ones are unknown."""

    def has_unacked(self) -> bool:
        """Whether the client must not end yet, because it has received something and not acknowledged it."""

    def pause_ns(self) -> int:
        """Nanoseconds to wait before the next request."""


class OwnQueueClient(Protocol):
    """One worker of a queue that talks to the server by itself. Only the locust engine can run it."""

    name: str
    producing: bool

    def turn(self) -> int | None:
        """Put or get one message. Returns a latency as `LoadClient.reply` does. Raises the queue's errors."""

    def close(self) -> None: ...


def is_own_queue_client(work: LoadClient | OwnQueueClient) -> TypeGuard[OwnQueueClient]:
    """Whether `work` is an OwnQueueClient. Looks at one attribute only, as it is called for ten thousand clients."""
    return hasattr(work, "turn")


class PushClient:
    """Enqueues messages by a command that ends with the body, `pipeline` messages in a request."""

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
        self.name: str = name
        self.replies: int = pipeline
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
        """Record in the ledger how many messages were attempted."""
        self._ledger.attempted[self._number] = self._count


class RepeatingClient:
    """Sends the same command again and again, `pipeline` times in a request. It involves no message."""

    __slots__ = ("_request", "name", "replies")
    producing = True
    blocking = False

    def __init__(self, command: tuple[str | int | bytes, ...], *, name: str, pipeline: int = 1) -> None:
        self.name: str = name
        self.replies: int = pipeline
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
    r"""Returns what precedes and follows the body in a request: `command`, then a body of `payload_bytes` bytes.

    >>> around(("RPUSH", "k"), 5)
    (b'*3\r\n$5\r\nRPUSH\r\n$1\r\nk\r\n$5\r\n', b'\r\n')
    """
    head, _, tail = encode_command([*command, b"\0" * payload_bytes]).rpartition(b"\0" * payload_bytes)
    return head, tail
