"""Who does what on a connection, without IO: an client gives requests and takes replies, and keeps the books.

The same clients run in both engines, one connection each. These loops run a hundred thousand times a second: what looks
inlined here is, on purpose.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Callable
from typing import Any, Protocol

from pytest_redisq.check import Knowledge
from pytest_redisq.load.codec import MAX_SEQUENCE, TRAILER_BYTES, BodyCodec, key_of
from pytest_redisq.load.deliveries import Ack, Coverage, Dequeue
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


class DeliveryBuffer:
    """Takes bodies for one reader (see Ledger) and books them by the thousand.

    `coverage` says what is recorded. If `tracks`, the order or the acks are: then each consumer calls `ask` before a
    dequeue and `took` after it, and `ack` or `ack_failed` after an acknowledgement.
    """

    __slots__ = (
        "_acks", "_clock", "_dequeues", "_in_hand", "_ledger", "_received", "_salt", "keys", "reader", "received",
        "tracks",
    )  # fmt: skip

    def __init__(self, ledger: Ledger, codec: BodyCodec, *, reader: str = "", coverage: Coverage | None = None) -> None:
        self._ledger = ledger
        self._salt = codec.salt
        self._received = ledger.reader(reader, coverage)
        known = self._received.coverage
        self.tracks = Knowledge.RECORDED in (known.order, known.acks)
        self.reader = reader
        self.keys: list[bytes] = []
        self.received = 0
        self._clock = 0  # counts the ends of dequeues and acks
        self._dequeues: list[Dequeue] = []
        self._acks: list[Ack] = []
        self._in_hand: dict[object, list[bytes]] = {}  # consumer → what its last dequeue brought

    def take(self, body: bytes, now_ns: int) -> int:
        """Book a body; how long it has been under way, in nanoseconds, 0 where it cannot say."""
        if zlib.crc32(body, self._salt) == _RESIDUE and len(body) >= TRAILER_BYTES:
            self.keys.append(body[-12:-4])
            under_way: int = now_ns - _STAMP.unpack_from(body, len(body) - TRAILER_BYTES)[0]
            return max(under_way, 1)
        self._ledger.corrupt(body)
        return 0

    def whole(self, body: bytes) -> bool:
        """Whether `body` is one of this run's, unchanged."""
        return zlib.crc32(body, self._salt) == _RESIDUE and len(body) >= TRAILER_BYTES

    def ask(self, consumer: object) -> int:
        """`consumer` is about to invoke a dequeue: returns what `took` is to be given."""
        self._in_hand.pop(consumer, None)
        return self._clock

    def took(self, consumer: object, asked: int, start: int) -> list[bytes]:
        """The dequeue has ended, and `keys` has what it brought from `start` on; returns these."""
        self._clock += 1
        self._dequeues.append(Dequeue(start, asked, self._clock))
        brought = self.keys[start:]
        self._in_hand[consumer] = brought
        return brought

    def ack(self, keys: list[bytes]) -> None:
        """The messages have been acknowledged."""
        self._clock += 1
        self._acks.append(Ack(self._clock, keys))

    def ack_failed(self, keys: list[bytes]) -> None:
        """An ack of the messages failed, or its outcome is unknown."""
        self._received.ack_tried.update(array("Q", b"".join(keys)))

    def lose(self, most: int) -> None:
        """A dequeue ended with unknown outcome; it may have taken so many messages."""
        self._received.unknown_dequeues += 1
        self._received.unknown_takes += most

    def go_back(self, keys: list[bytes]) -> None:
        """Entries came under ids that are not above all before."""
        self._received.backwards.update(array("Q", b"".join(keys)))

    def name_ids(self) -> None:
        """Deliveries have ids, which are not recorded, nor in which order of them a reader got entries."""
        unrecorded = Knowledge.UNRECORDED
        self._received.coverage = self._received.coverage._replace(ids=unrecorded, polls=unrecorded)

    def flush(self) -> None:
        """Book what has come."""
        keys, self.keys = self.keys, []
        dequeues, self._dequeues = self._dequeues, []
        acks, self._acks = self._acks, []
        self.received += len(keys)
        self._ledger.receive(keys, reader=self.reader, dequeues=dequeues, acks=acks)

    def settle(self) -> None:
        """All consumers have ended: what their last dequeues brought was in flight at the end."""
        self.flush()
        for keys in self._in_hand.values():
            self._received.in_flight.update(array("Q", b"".join(keys)))
        self._in_hand.clear()


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


class BlpopClient:
    """Waits in BLPOP for one message after the other. `served` is how many it has been given."""

    __slots__ = ("_asked", "_buffer", "_request", "_take", "_tracks", "name", "served")
    replies = 1
    producing = False
    blocking = True

    def __init__(self, buffer: DeliveryBuffer, keys: tuple[str, ...], *, name: str) -> None:
        self.name = name
        self._buffer = buffer
        self._tracks = buffer.tracks
        self._asked = 0
        self._take: Callable[[bytes, int], int] = buffer.take
        self._request = encode_command(["BLPOP", *keys, 0])
        self.served = 0

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        if self._tracks:
            self._asked = self._buffer.ask(self)
        return self._request

    def reply(self, reply: Any, now_ns: int) -> int | None:
        if reply is None:
            return None
        self.served += 1
        if not self._tracks:
            return self._take(reply[1], now_ns)
        start = len(self._buffer.keys)
        latency = self._take(reply[1], now_ns)
        self._buffer.took(self, self._asked, start)
        return latency

    def refuse(self, at: int) -> None: ...

    def connection_lost(self, at: int) -> None:  # noqa: ARG002
        self._buffer.lose(1)

    def has_unacked(self) -> bool:
        return False

    def pause_ns(self) -> int:
        return 0


class XreadgroupClient:
    """Reads a stream as a consumer of a group, and acknowledges what it has got.

    After its connection broke it reads first what it had been given by then, as a worker has to that was started again.
    """

    __slots__ = ("_ack", "_asked", "_broke", "_buffer", "_held", "_ids", "_read", "_read_again", "name")
    replies = 1
    producing = False
    blocking = True

    def __init__(
        self, buffer: DeliveryBuffer, stream: str, group: str, consumer: str, *, name: str, count: int = 100
    ) -> None:
        self.name = name
        self._buffer = buffer
        self._asked = 0
        head: list[str | int] = ["XREADGROUP", "GROUP", group, consumer, "COUNT", count]
        self._read = encode_command([*head, "BLOCK", 0, "STREAMS", stream, ">"])
        self._read_again = encode_command([*head, "STREAMS", stream, "0"])
        self._broke = False
        self._ack = ("XACK", stream, group)
        self._ids: list[bytes] = []
        self._held: list[bytes] = []  # the keys of what is to be acknowledged

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        if self._ids:
            return encode_command([*self._ack, *self._ids])
        self._asked = self._buffer.ask(self)
        return self._read_again if self._broke else self._read

    def reply(self, reply: Any, now_ns: int) -> int | None:
        if self._ids:
            self._ids = []
            self._buffer.ack(self._held)
            return None
        if reply is None:
            return None
        entries = reply[0][1]
        self._ids = [entry[0] for entry in entries]
        start = len(self._buffer.keys)
        if self._broke:
            self._broke = bool(entries)
            entries = [entry for entry in entries if entry[1]]  # of what was trimmed there is but the id
            if not entries:
                self._held = []
                return None
        take = self._buffer.take
        latency = max([take(entry[1][-1], now_ns) for entry in entries])
        self._held = self._buffer.took(self, self._asked, start)
        return latency

    def refuse(self, at: int) -> None:  # noqa: ARG002
        self._give_up_ack()

    def connection_lost(self, at: int) -> None:  # noqa: ARG002
        # What was being read stays pending in the group, so that nothing is unknown of it.
        self._give_up_ack()
        self._broke = True

    def _give_up_ack(self) -> None:
        if self._ids:
            self._buffer.ack_failed(self._held)
            self._ids = []

    def has_unacked(self) -> bool:
        return bool(self._ids)

    def pause_ns(self) -> int:
        return 0


class XreadClient:
    """Reads every entry of a stream, from its beginning, each time from the last one received."""

    __slots__ = ("_asked", "_buffer", "_head", "_highest", "_last", "name")
    replies = 1
    producing = False
    blocking = True

    def __init__(self, buffer: DeliveryBuffer, stream: str, *, name: str, count: int = 100) -> None:
        self.name = name
        self._buffer = buffer
        self._head: tuple[str | int, ...] = ("XREAD", "COUNT", count, "BLOCK", 0, "STREAMS", stream)
        self._last: bytes = b"0-0"
        self._highest = (0, 0)  # of the ids that it got
        self._asked = 0

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        if self._buffer.tracks:
            self._asked = self._buffer.ask(self)
        return encode_command([*self._head, self._last])

    def reply(self, reply: Any, now_ns: int) -> int | None:
        if reply is None:
            return None
        entries = reply[0][1]
        buffer = self._buffer
        start, take = len(buffer.keys), buffer.take
        latency = max([take(entry[1][-1], now_ns) for entry in entries])
        if buffer.tracks:
            buffer.took(self, self._asked, start)
        self._last = entries[-1][0]
        first, last = _stream_id(entries[0][0]), _stream_id(self._last)
        # Entries of one reply come in order: the ends tell.
        if first <= self._highest or last < first:
            self._find_backwards(entries)
        self._highest = max(self._highest, last)
        return latency

    def _find_backwards(self, entries: list[Any]) -> None:
        highest = self._highest
        for identity, fields in entries:
            here = _stream_id(identity)
            if here <= highest and self._buffer.whole(fields[-1]):
                self._buffer.go_back([fields[-1][-12:-4]])
            highest = max(highest, here)
        self._highest = highest

    def refuse(self, at: int) -> None: ...

    def connection_lost(self, at: int) -> None: ...

    def has_unacked(self) -> bool:
        return False

    def pause_ns(self) -> int:
        return 0


def _stream_id(text: bytes) -> tuple[int, int]:
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


class LpopClient:
    """Empties a list by LPOP with a count, without waiting in the server."""

    __slots__ = ("_asked", "_buffer", "_count", "_empty", "_request", "name")
    replies = 1
    producing = False
    blocking = False

    def __init__(self, buffer: DeliveryBuffer, key: str, *, name: str, count: int = 1000) -> None:
        self.name = name
        self._buffer = buffer
        self._asked = 0
        self._count = count
        self._request = encode_command(["LPOP", key, count])
        self._empty = False

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        if self._buffer.tracks:
            self._asked = self._buffer.ask(self)
        return self._request

    def reply(self, reply: Any, now_ns: int) -> int | None:
        self._empty = reply is None
        if reply is None:
            return None
        start, take = len(self._buffer.keys), self._buffer.take
        for body in reply:
            take(body, now_ns)
        if self._buffer.tracks:
            self._buffer.took(self, self._asked, start)
        return 0

    def refuse(self, at: int) -> None: ...

    def connection_lost(self, at: int) -> None:  # noqa: ARG002
        self._buffer.lose(self._count)

    def has_unacked(self) -> bool:
        return False

    def pause_ns(self) -> int:
        return PAUSE_NS if self._empty else 0


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
