"""The clients that receive messages: by BLPOP, XREADGROUP, XREAD and LPOP.

These functions run a hundred thousand times a second, so some code is inlined on purpose. Each client counts the
replies that brought messages as `served`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer
from pytest_redisq.resp import encode_command

#: Nanoseconds that a consumer that does not block waits after an empty reply.
PAUSE_NS = 1_000_000


class BlpopClient(LoadClient):
    """Receives messages by BLPOP, one at a time."""

    __slots__ = ("_asked", "_buffer", "_request", "_take", "_tracks", "name", "served")
    blocking = True

    def __init__(self, buffer: DeliveryBuffer, keys: tuple[str, ...], *, name: str) -> None:
        self.name: str = name
        self._buffer = buffer
        self._tracks = buffer.tracks
        self._asked = 0
        self._take: Callable[[bytes, int], int] = buffer.take
        self._request = encode_command(["BLPOP", *keys, 0])
        self.served: int = 0

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

    def connection_lost(self, at: int) -> None:  # noqa: ARG002
        self._buffer.lose(1)


class XreadgroupClient(LoadClient):
    """Reads a stream as a consumer of a group, and acknowledges the entries.

    After its connection broke, it first reads its pending entries, as a restarted worker must.
    """

    __slots__ = ("_ack", "_asked", "_broke", "_buffer", "_held", "_ids", "_read", "_read_again", "name", "served")
    blocking = True

    def __init__(
        self, buffer: DeliveryBuffer, stream: str, group: str, consumer: str, *, name: str, count: int = 100
    ) -> None:
        self.name: str = name
        self.served: int = 0
        self._buffer = buffer
        self._asked = 0
        head: list[str | int] = ["XREADGROUP", "GROUP", group, consumer, "COUNT", count]
        self._read = encode_command([*head, "BLOCK", 0, "STREAMS", stream, ">"])
        self._read_again = encode_command([*head, "STREAMS", stream, "0"])
        self._broke = False
        self._ack = ("XACK", stream, group)
        self._ids: list[bytes] = []
        self._held: list[bytes] = []  # the keys of the messages to acknowledge

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
            entries = [entry for entry in entries if entry[1]]  # a trimmed entry has only its id
            if not entries:
                self._held = []
                return None
        self.served += 1
        take = self._buffer.take
        latency = max([take(entry[1][-1], now_ns) for entry in entries])
        self._held = self._buffer.took(self, self._asked, start)
        return latency

    def refuse(self, at: int) -> None:  # noqa: ARG002
        self._give_up_ack()

    def connection_lost(self, at: int) -> None:  # noqa: ARG002
        # Entries in a lost reply stay pending in the group, so nothing is unknown.
        self._give_up_ack()
        self._broke = True

    def _give_up_ack(self) -> None:
        if self._ids:
            self._buffer.ack_failed(self._held)
            self._ids = []

    def has_unacked(self) -> bool:
        return bool(self._ids)


class XreadClient(LoadClient):
    """Reads every entry of a stream by XREAD, from the first entry on."""

    __slots__ = ("_asked", "_buffer", "_head", "_highest", "_last", "name", "served")
    blocking = True

    def __init__(self, buffer: DeliveryBuffer, stream: str, *, name: str, count: int = 100) -> None:
        self.name: str = name
        self.served: int = 0
        self._buffer = buffer
        self._head: tuple[str | int, ...] = ("XREAD", "COUNT", count, "BLOCK", 0, "STREAMS", stream)
        self._last: bytes = b"0-0"
        self._highest = (0, 0)  # of the ids received
        self._asked = 0

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        if self._buffer.tracks:
            self._asked = self._buffer.ask(self)
        return encode_command([*self._head, self._last])

    def reply(self, reply: Any, now_ns: int) -> int | None:
        if reply is None:
            return None
        self.served += 1
        entries = reply[0][1]
        buffer = self._buffer
        start, take = len(buffer.keys), buffer.take
        latency = max([take(entry[1][-1], now_ns) for entry in entries])
        if buffer.tracks:
            buffer.took(self, self._asked, start)
        self._last = entries[-1][0]
        first, last = _stream_id(entries[0][0]), _stream_id(self._last)
        # The entries of one reply are in order, so its first and last id are enough.
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


def _stream_id(text: bytes) -> tuple[int, int]:
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


class LpopClient(LoadClient):
    """Empties a list by LPOP with a count, without blocking in the server."""

    __slots__ = ("_asked", "_buffer", "_count", "_empty", "_request", "name", "served")

    def __init__(self, buffer: DeliveryBuffer, key: str, *, name: str, count: int = 1000) -> None:
        self.name: str = name
        self.served: int = 0
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
        self.served += 1
        start, take = len(self._buffer.keys), self._buffer.take
        for body in reply:
            take(body, now_ns)
        if self._buffer.tracks:
            self._buffer.took(self, self._asked, start)
        return 0

    def connection_lost(self, at: int) -> None:  # noqa: ARG002
        self._buffer.lose(self._count)

    def pause_ns(self) -> int:
        return PAUSE_NS if self._empty else 0
