"""Encodes and parses requests without IO: arrays of bulk strings and inline commands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pytest_redisq.resp.grammar import (
    MAX_BULK_BYTES,
    MAX_ELEMENTS,
    MAX_LINE_BYTES,
    MalformedError,
    UnparsedBytes,
    cut_frames,
    line_end,
    parse_integer,
)

#: The most requests that a parser remembers, and the most bytes of each.
_REMEMBERED, _REMEMBERED_BYTES = 1024, 256


class Request(NamedTuple):
    """A request: its exact bytes and its arguments. An empty line or `*0` has no arguments; the server ignores it."""

    raw: bytes
    args: tuple[bytes, ...]


def encode_command(args: Iterable[bytes | str | int | float]) -> bytes:
    r"""Encode a command as an array of bulk strings.

    >>> encode_command(["GET", b"k"])
    b'*2\r\n$3\r\nGET\r\n$1\r\nk\r\n'
    """
    out = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    return b"*%d\r\n" % len(out) + b"".join([b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in out])


class RequestParser:
    """Frames what a client sends: arrays of bulk strings and inline commands."""

    __slots__ = ("_args", "_at", "_broken", "_buffer", "_missing", "_wanted", "_whole")

    def __init__(self) -> None:
        self._whole: dict[bytes, Request] = {}  # requests seen before, by their bytes: clients repeat themselves
        self._buffer = bytearray()
        self._at = 0  # where the next unread element of the current frame begins
        self._args: list[bytes] = []
        self._missing = 0  # elements of the current frame still to come; 0 between frames
        self._wanted = 0  # below this length of the buffer, the frame cannot be complete
        self._broken = False

    def feed(self, data: bytes) -> list[Request | UnparsedBytes]:
        """The frames that `data` completes."""
        if self._broken:
            return [UnparsedBytes(data)] if data else []
        if not self._buffer and data in self._whole:
            return [self._whole[data]]
        self._buffer += data
        if len(self._buffer) < self._wanted:
            return []
        self._wanted = 0
        frames, self._broken = cut_frames(self._buffer, self._read, self._take)
        if len(frames) == 1 and isinstance(frames[0], Request) and frames[0].raw == data:
            self._remember(frames[0])
        return frames

    def _remember(self, command: Request) -> None:
        if len(self._whole) < _REMEMBERED and len(command.raw) <= _REMEMBERED_BYTES:
            self._whole[command.raw] = command

    def _take(self) -> Request:
        command = Request(bytes(self._buffer[: self._at]), tuple(self._args))
        del self._buffer[: self._at]
        self._at = 0
        self._args.clear()
        return command

    def _read(self) -> bool:
        buffer = self._buffer
        if not self._missing:
            if buffer[0] != 0x2A:  # *
                return self._read_inline()
            end = line_end(buffer, 0)
            if end < 0:
                return False
            self._missing = max(0, parse_integer(buffer[1:end], low=-MAX_ELEMENTS, high=MAX_ELEMENTS))
            self._at = end + 2
        while self._missing:
            if not self._read_bulk():
                return False
            self._missing -= 1
        return True

    def _read_bulk(self) -> bool:
        buffer, at = self._buffer, self._at
        end = line_end(buffer, at)
        if end < 0:
            return False
        if buffer[at] != 0x24:  # $
            raise MalformedError
        start = end + 2
        stop = start + parse_integer(buffer[at + 1 : end], low=0, high=MAX_BULK_BYTES)
        if len(buffer) < stop + 2:
            self._wanted = stop + 2
            return False
        # The server does not check the two bytes after a bulk string. The parser must agree with it.
        self._args.append(bytes(buffer[start:stop]))
        self._at = stop + 2
        return True

    def _read_inline(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise MalformedError
            return False
        self._args.extend(_split_inline(bytes(self._buffer[:end]).removesuffix(b"\r")))
        self._at = end + 1
        return True


_ESCAPES = {0x6E: 0x0A, 0x72: 0x0D, 0x74: 0x09, 0x62: 0x08, 0x61: 0x07}
_BLANKS = frozenset(b" \t\n\r\v\f\0")
_HEX = frozenset(b"0123456789abcdefABCDEF")


def _split_inline(line: bytes) -> list[bytes]:
    """Split an inline command into its arguments, with quotes and escapes read as in the server's `sdssplitargs`."""
    args: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at] in _BLANKS:
            at += 1
        if at == len(line):
            return args
        word, at = _read_word(line, at)
        args.append(word)


def _read_word(line: bytes, at: int) -> tuple[bytes, int]:
    word = bytearray()
    while at < len(line) and line[at] not in _BLANKS:
        if line[at] in b"\"'":
            at = _read_quoted(line, at, word)
            if at < len(line) and line[at] not in _BLANKS:
                raise MalformedError  # the server requires a blank after a closing quote
            return bytes(word), at
        word.append(line[at])
        at += 1
    return bytes(word), at


def _read_quoted(line: bytes, at: int, word: bytearray) -> int:
    quote, at = line[at], at + 1
    while at < len(line):
        char = line[at]
        if char == quote:
            return at + 1
        if char == 0x5C and at + 1 < len(line):  # a backslash
            at = _read_escape(line, at, word, quote)
            continue
        word.append(char)
        at += 1
    raise MalformedError


def _read_escape(line: bytes, at: int, word: bytearray, quote: int) -> int:
    after = line[at + 1]
    if quote == 0x27:  # between single quotes, only \' is an escape
        word.append(0x27 if after == 0x27 else 0x5C)
        return at + (2 if after == 0x27 else 1)
    digits = line[at + 2 : at + 4]
    if after == 0x78 and len(digits) == 2 and set(digits) <= _HEX:
        word.append(int(digits, 16))
        return at + 4
    word.append(_ESCAPES.get(after, after))
    return at + 2
