"""Parses what a server sends into whole replies, without IO: every type of RESP2 and RESP3."""

from __future__ import annotations

from typing import NamedTuple

from pytest_redisq.resp.grammar import (
    AGGREGATES,
    BULKS,
    MAX_ELEMENTS,
    MalformedError,
    UnparsedBytes,
    cut_frames,
    line_end,
    parse_integer,
)


class Reply(NamedTuple):
    """A whole reply with the attributes before it; with `push`, a RESP3 push message."""

    raw: bytes
    push: bool = False

    @property
    def error(self) -> bool:
        """Whether the reply is an error: `-…` or `!…`."""
        return self.raw[:1] in (b"-", b"!")


class ReplyParser:
    """Frames what a server sends: every RESP2 and RESP3 type, attributes, streamed strings and aggregates."""

    __slots__ = ("_at", "_broken", "_buffer", "_stack", "_wanted")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # where the next unread element of the current frame begins
        self._stack: list[int] = []  # per open aggregate, the elements still to come; -1: streamed, until a `.`
        self._wanted = 0  # below this length of the buffer, the frame cannot be complete
        self._broken = False

    def feed(self, data: bytes) -> list[Reply | UnparsedBytes]:
        """The frames that `data` completes."""
        if self._broken:
            return [UnparsedBytes(data)] if data else []
        if not self._buffer and data[:1] in _SIMPLE and data.find(b"\r\n", 1) == len(data) - 2 > 0:
            return [Reply(data)]  # most replies are one short line
        self._buffer += data
        if len(self._buffer) < self._wanted:
            return []
        self._wanted = 0
        frames, self._broken = cut_frames(self._buffer, self._read, self._take)
        return frames

    def pending(self) -> bytes:
        """The bytes received of a frame that is not complete yet."""
        return bytes(self._buffer)

    def _take(self) -> Reply:
        raw = bytes(self._buffer[: self._at])
        del self._buffer[: self._at]
        self._at = 0
        return Reply(raw, raw[0] == 0x3E)  # >

    def _read(self) -> bool:
        stack = self._stack
        while True:
            opened = self._read_element()
            if opened is None:
                return False
            if opened:
                continue
            while stack and stack[-1] == 1:
                stack.pop()
            if not stack:
                return True
            if stack[-1] > 1:
                stack[-1] -= 1

    def _read_element(self) -> bool | None:
        """Read one header or leaf.

        Returns None if it has not arrived yet, False if an element is complete, and True if not: an aggregate was
        opened, or an attribute or a chunk was read.
        """
        buffer, at = self._buffer, self._at
        end = line_end(buffer, at)
        if end < 0:
            return None
        kind = buffer[at]
        if (kind == 0x3B) != bool(self._stack and self._stack[-1] == _CHUNKS):  # ; only chunks fill a streamed string
            raise MalformedError
        if kind in _LINES:
            self._at = end + 2
            return False
        header = buffer[at + 1 : end]
        if kind in BULKS:
            return self._read_bulk(kind, header, end + 2)
        if kind in AGGREGATES:
            self._at = end + 2
            return self._open(kind, header)
        if kind == 0x2E and self._stack and self._stack[-1] == -1 and not header:  # . ends a streamed aggregate
            self._at = end + 2
            self._stack.pop()
            return False
        raise MalformedError

    def _read_bulk(self, kind: int, header: bytearray, start: int) -> bool | None:
        if kind == 0x24 and header == b"?":  # a streamed string: chunks follow, the empty one ends it
            self._at = start
            self._stack.append(_CHUNKS)
            return True
        in_chunks = kind == 0x3B
        length = parse_integer(header, low=-1 if kind == 0x24 else 0, high=MAX_ELEMENTS)
        if length == -1 or (in_chunks and length == 0):
            self._at = start
            if in_chunks:
                self._stack.pop()
            return False
        stop = start + length
        if len(self._buffer) < stop + 2:
            self._wanted = stop + 2
            return None
        if self._buffer[stop : stop + 2] != b"\r\n":
            raise MalformedError
        self._at = stop + 2
        return in_chunks

    def _open(self, kind: int, header: bytearray) -> bool:
        if header == b"?" and kind in _STREAMABLE:
            self._stack.append(-1)
            return True
        count = parse_integer(header, low=-1 if kind == 0x2A else 0, high=MAX_ELEMENTS) * AGGREGATES[kind]
        if kind == 0x7C:  # an attribute: its pairs precede the element that they describe
            if count:
                self._stack.append(count + 1)
            return True
        if count <= 0:
            return False
        self._stack.append(count)
        return True


_CHUNKS = -2
_LINES = frozenset(b"+-:_,#(")
_SIMPLE = frozenset([b"+", b"-", b":", b"_"])
_STREAMABLE = frozenset(b"*~%")
