"""Who does what on a connection, without IO: an actor gives requests and takes replies, and keeps the books.

The same actors run in both engines, one connection each. These loops run a hundred thousand times a second: what looks
inlined here is, on purpose.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.message import MAX_SEQUENCE, TRAILER_BYTES, Codec, key_of
from pytest_redisq.resp import encode_command

_STAMP = struct.Struct("<Q")
_RESIDUE = 0x2144DF1C
#: How long a consumer that does not block waits when it found nothing, in nanoseconds.
PAUSE_NS = 1_000_000


class Actor(Protocol):
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

    def break_off(self, at: int) -> None:
        """The connection broke before the reply to the `at`-th command had come: of it and the rest nobody knows."""

    def owes(self) -> bool:
        """Whether it may not end yet, since something it took is not acknowledged."""

    def pause_ns(self) -> int:
        """How long to wait before the next request."""


class Inbox:
    """Takes bodies for one reader (see Ledger) and puts them into the books by the thousand."""

    __slots__ = ("_codec", "_crc32", "_latest", "_ledger", "_salt", "keys", "reader", "received")

    def __init__(self, ledger: Ledger, codec: Codec, *, reader: str = "", ordered: bool = False) -> None:
        self._ledger = ledger
        self._salt = codec.salt
        self._latest: dict[int, int] | None = {} if ordered else None
        self.reader = reader
        self.keys: list[bytes] = []
        self.received = 0
        ledger.reader(reader)

    def take(self, body: bytes, now_ns: int) -> int:
        """Book a body; how long it has been under way, in nanoseconds, 0 where it cannot say."""
        if zlib.crc32(body, self._salt) == _RESIDUE and len(body) >= TRAILER_BYTES:
            self.keys.append(body[-12:-4])
            under_way: int = now_ns - _STAMP.unpack_from(body, len(body) - TRAILER_BYTES)[0]
            return max(under_way, 1)
        self._ledger.corrupt(body)
        return 0

    def flush(self) -> None:
        keys, self.keys = self.keys, []
        self.received += len(keys)
        self._ledger.receive(keys, reader=self.reader, latest=self._latest)


class Pusher:
    """Enqueues one message after the other, `pipeline` of them a request, by any command that ends with the body."""

    __slots__ = ("_broken_off", "_count", "_first", "_ledger", "_number", "_write", "name", "replies")
    producing = True
    blocking = False

    def __init__(
        self,
        ledger: Ledger,
        codec: Codec,
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

    def break_off(self, at: int) -> None:
        self._ledger.forget(self._number, self._count - self.replies + at, self.replies - at)

    def owes(self) -> bool:
        return False

    def pause_ns(self) -> int:
        return 0

    def settle(self) -> None:
        """Write into the books how many were attempted."""
        self._ledger.attempted[self._number] = self._count


class Popper:
    """Waits in BLPOP for one message after the other. `served` is how many it has been given."""

    __slots__ = ("_ledger", "_request", "_take", "name", "served")
    replies = 1
    producing = False
    blocking = True

    def __init__(self, ledger: Ledger, inbox: Inbox, keys: tuple[str, ...], *, name: str) -> None:
        self.name = name
        self._ledger = ledger
        self._take: Callable[[bytes, int], int] = inbox.take
        self._request = encode_command(["BLPOP", *keys, 0])
        self.served = 0

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        return self._request

    def reply(self, reply: Any, now_ns: int) -> int | None:
        if reply is None:
            return None
        self.served += 1
        return self._take(reply[1], now_ns)

    def refuse(self, at: int) -> None: ...

    def break_off(self, at: int) -> None:  # noqa: ARG002
        self._ledger.unknown_takes += 1

    def owes(self) -> bool:
        return False

    def pause_ns(self) -> int:
        return 0


class GroupReader:
    """Reads a stream as a consumer of a group, and acknowledges what it has got.

    After its connection broke it reads first what it had been given by then, as a worker has to that was started again.
    """

    __slots__ = ("_ack", "_broke", "_ids", "_inbox", "_ledger", "_read", "_read_again", "name")
    replies = 1
    producing = False
    blocking = True

    def __init__(
        self, ledger: Ledger, inbox: Inbox, stream: str, group: str, consumer: str, *, name: str, count: int = 100
    ) -> None:
        self.name = name
        self._ledger = ledger
        self._inbox = inbox
        head: list[str | int] = ["XREADGROUP", "GROUP", group, consumer, "COUNT", count]
        self._read = encode_command([*head, "BLOCK", 0, "STREAMS", stream, ">"])
        self._read_again = encode_command([*head, "STREAMS", stream, "0"])
        self._broke = False
        self._ack = ("XACK", stream, group)
        self._ids: list[bytes] = []

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        if self._ids:
            return encode_command([*self._ack, *self._ids])
        return self._read_again if self._broke else self._read

    def reply(self, reply: Any, now_ns: int) -> int | None:
        if self._ids:
            self._ids = []
            return None
        if reply is None:
            return None
        entries = reply[0][1]
        self._ids = [entry[0] for entry in entries]
        if self._broke:
            self._broke = bool(entries)
            entries = [entry for entry in entries if entry[1]]  # of what was trimmed there is but the id
            if not entries:
                return None
        take = self._inbox.take
        return max([take(entry[1][-1], now_ns) for entry in entries])

    def refuse(self, at: int) -> None:  # noqa: ARG002
        self._ids = []

    def break_off(self, at: int) -> None:  # noqa: ARG002
        # What was being read stays pending in the group, so that nothing is unknown of it.
        self._ids = []
        self._broke = True

    def owes(self) -> bool:
        return bool(self._ids)

    def pause_ns(self) -> int:
        return 0


class FanReader:
    """Reads every entry of a stream, from its beginning, each time from the last one received."""

    __slots__ = ("_head", "_inbox", "_last", "name")
    replies = 1
    producing = False
    blocking = True

    def __init__(self, inbox: Inbox, stream: str, *, name: str, count: int = 100) -> None:
        self.name = name
        self._inbox = inbox
        self._head: tuple[str | int, ...] = ("XREAD", "COUNT", count, "BLOCK", 0, "STREAMS", stream)
        self._last: bytes = b"0-0"

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        return encode_command([*self._head, self._last])

    def reply(self, reply: Any, now_ns: int) -> int | None:
        if reply is None:
            return None
        entries = reply[0][1]
        self._last = entries[-1][0]
        take = self._inbox.take
        return max([take(entry[1][-1], now_ns) for entry in entries])

    def refuse(self, at: int) -> None: ...

    def break_off(self, at: int) -> None: ...

    def owes(self) -> bool:
        return False

    def pause_ns(self) -> int:
        return 0


class Drainer:
    """Empties a list by LPOP with a count, without waiting in the server."""

    __slots__ = ("_count", "_empty", "_inbox", "_ledger", "_request", "name")
    replies = 1
    producing = False
    blocking = False

    def __init__(self, ledger: Ledger, inbox: Inbox, key: str, *, name: str, count: int = 1000) -> None:
        self.name = name
        self._ledger = ledger
        self._inbox = inbox
        self._count = count
        self._request = encode_command(["LPOP", key, count])
        self._empty = False

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        return self._request

    def reply(self, reply: Any, now_ns: int) -> int | None:
        self._empty = reply is None
        if reply is None:
            return None
        take = self._inbox.take
        for body in reply:
            take(body, now_ns)
        return 0

    def refuse(self, at: int) -> None: ...

    def break_off(self, at: int) -> None:  # noqa: ARG002
        self._ledger.unknown_takes += self._count

    def owes(self) -> bool:
        return False

    def pause_ns(self) -> int:
        return PAUSE_NS if self._empty else 0


class Repeater:
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

    def break_off(self, at: int) -> None: ...

    def owes(self) -> bool:
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
