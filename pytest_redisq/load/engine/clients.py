"""The clients of a load run, without IO: a client gives requests, takes replies, and records the outcomes.

The same clients run in both engines, one on each connection. These functions run a hundred thousand times a second, so
some code is inlined on purpose.
"""

from __future__ import annotations

import struct
from typing import Any, Protocol, TypeGuard

from pytest_redisq.load.codec import MAX_SEQUENCE, BodyCodec, key_of
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.resp import encode_command

_STAMP = struct.Struct("<Q")
_RESIDUE = 0x2144DF1C


class LoadClient(Protocol):
    """Gives the requests of one connection and takes their replies.

    Most methods have a default, for clients that do nothing there.
    """

    __slots__ = ()

    #: The name of the requests in Locust's statistics.
    name: str
    #: The number of replies to each request.
    replies: int = 1
    #: Whether the requests enqueue messages. They are then sent at the given rate, and `reply` is not called.
    producing: bool = False
    #: Whether the requests may block in the server. The client must then be unblocked to end.
    blocking: bool = False

    def request(self, now_ns: int) -> bytes | bytearray:
        """Returns the next request. It may overwrite the bytes returned before."""
        ...

    def reply(self, reply: Any, now_ns: int) -> int | None:  # noqa: ARG002
        """Take a reply that is not an error. Returns a latency in nanoseconds.

        0 stands for the time from the request to the reply. None means that no message was received, as by a pop of an
        empty list. A blocking pop returns the time from push to pop.
        """
        return 0

    def refuse(self, at: int) -> None:  # noqa: ARG002
        """The reply to the request's command number `at` (from 0) was an error: the command had no effect."""
        return

    def connection_lost(self, at: int) -> None:  # noqa: ARG002
        """The connection broke before the reply to command number `at`. Its outcome and the later ones are unknown."""
        return

    def has_unacked(self) -> bool:
        """Whether the client has received a message and not acknowledged it. It must not end yet."""
        return False

    def pause_ns(self) -> int:
        """Nanoseconds to wait before the next request."""
        return 0


class OwnQueueClient(Protocol):
    """One worker of the user's own queue, which has its own connection. Only the locust engine can run it."""

    name: str
    producing: bool

    def work(self, turns: Turns) -> None:
        """Put or get messages until it is over."""

    def close(self) -> None: ...


class Turns(Protocol):
    """What the engine and a worker of the user's own queue tell each other."""

    def over(self) -> bool:
        """Whether the worker is to end. Called before each put or get, and lets others act first."""

    def seconds_until(self, number: int) -> float:
        """The time until the put with this number (from 0) is due; 0: now."""

    def begin(self) -> None:
        """A put or a get begins."""

    def done(self, latency_ns: int) -> None:
        """A message was put or received; the latency as `LoadClient.reply` returns it."""

    def idle(self) -> None:
        """A get came back with nothing."""

    def failed(self, error: Exception) -> None:
        """A put, get or ack raised `error`."""


def is_own_queue_client(work: LoadClient | OwnQueueClient) -> TypeGuard[OwnQueueClient]:
    """Whether `work` is an OwnQueueClient. Looks at one attribute only, as it is called for ten thousand clients."""
    return hasattr(work, "work")


class PushClient(LoadClient):
    """Enqueues messages by a command that ends with the body.

    * `command`: the command without the body.
    * `name`: the name of the requests in Locust's statistics.
    * `pipeline`: messages in each request; default 1.
    """

    __slots__ = ("_broken_off", "_count", "_first", "_ledger", "_number", "_write", "name", "replies")
    producing = True

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

    def refuse(self, at: int) -> None:
        self._ledger.fail(self._number, self._count - self.replies + at)

    def connection_lost(self, at: int) -> None:
        self._ledger.forget(self._number, self._count - self.replies + at, self.replies - at)

    def settle(self) -> None:
        """Record in the ledger how many messages were attempted."""
        self._ledger.attempted[self._number] = self._count


class RepeatingClient(LoadClient):
    """Sends the same command again and again. It involves no message.

    `pipeline`: how many times the command is in each request; default 1.
    """

    __slots__ = ("_request", "name", "replies")
    producing = True

    def __init__(self, command: tuple[str | int | bytes, ...], *, name: str, pipeline: int = 1) -> None:
        self.name: str = name
        self.replies: int = pipeline
        self._request = encode_command(command) * pipeline

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        return self._request


def around(command: tuple[str | int, ...], payload_bytes: int) -> tuple[bytes, bytes]:
    r"""Returns the bytes before and after the body in a request of `command` and a body of `payload_bytes` bytes.

    >>> around(("RPUSH", "k"), 5)
    (b'*3\r\n$5\r\nRPUSH\r\n$1\r\nk\r\n$5\r\n', b'\r\n')
    """
    head, _, tail = encode_command([*command, b"\0" * payload_bytes]).rpartition(b"\0" * payload_bytes)
    return head, tail
