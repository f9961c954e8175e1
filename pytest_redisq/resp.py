"""Framing of RESP2 and RESP3 in both directions, without any IO: bytes in, whole frames out, each with its exact bytes.

Laws, however the stream is split into chunks:

- the frames are the same;
- the `raw` bytes of all frames, joined, are the stream without its incomplete end, so a frame can be forwarded as is;
- from the first byte that no server or client would understand, everything is one `UnparsedBytes`. Forward it as is,
  so that the other side sees (and answers) exactly what was sent.

The grammar: https://redis.io/docs/latest/develop/reference/protocol-spec and, for requests, `processInlineBuffer` and
`processMultibulkBuffer` of the server's networking.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

#: The longest bulk string, in bytes, that a stock server takes (`proto-max-bulk-len`); a longer one is an error there.
MAX_BULK_BYTES = 512 * 1024 * 1024
#: The longest inline request or header line, in bytes (`PROTO_INLINE_MAX_SIZE`).
MAX_LINE_BYTES = 64 * 1024
#: How many requests a connection's framer remembers, and of how many bytes at most.
_REMEMBERED, _REMEMBERED_BYTES = 1024, 256
#: The most elements of one aggregate.
MAX_ELEMENTS = 2**31 - 1

Value: TypeAlias = "bool | int | float | bytes | ReplyError | list[Value] | dict[object, Value] | None"


class Request(NamedTuple):
    """A request: its exact bytes and its arguments. An empty line or `*0` has none: the server ignores it silently."""

    raw: bytes
    args: tuple[bytes, ...]


class Reply(NamedTuple):
    """A whole reply, the attributes before it included, or (where `push`) a RESP3 push message."""

    raw: bytes
    push: bool = False

    @property
    def error(self) -> bool:
        """Whether it is an error: `-…` or `!…`."""
        return self.raw[:1] in (b"-", b"!")


class UnparsedBytes(NamedTuple):
    """Bytes that follow no grammar, to be passed on untouched; nothing after them can be framed."""

    raw: bytes


class ReplyError(str):
    """An error reply as a value: its text, code first."""

    __slots__ = ()


class _MalformedError(Exception):
    pass


def encode_command(args: Iterable[bytes | str | int | float]) -> bytes:
    r"""A request of bulk strings.

    >>> encode_command(["GET", b"k"])
    b'*2\r\n$3\r\nGET\r\n$1\r\nk\r\n'
    """
    out = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    return b"*%d\r\n" % len(out) + b"".join([b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in out])


class RequestParser:
    """Frames what a client sends: arrays of bulk strings and inline commands."""

    __slots__ = ("_args", "_at", "_broken", "_buffer", "_missing", "_wanted", "_whole")

    def __init__(self) -> None:
        self._whole: dict[bytes, Request] = {}  # what came in one piece before: clients repeat themselves
        self._buffer = bytearray()
        self._at = 0  # where the next unread element of the frame in hand begins
        self._args: list[bytes] = []
        self._missing = 0  # elements of the frame in hand still to come; 0 between frames
        self._wanted = 0  # a length of the buffer below which looking again is vain
        self._broken = False

    def feed(self, data: bytes) -> list[Request | UnparsedBytes]:
        """The frames that `data` completes."""
        if self._broken:
            return [UnparsedBytes(data)] if data else []
        if not self._buffer and data in self._whole:
            return [self._whole[data]]
        self._buffer += data
        frames: list[Request | UnparsedBytes] = []
        if len(self._buffer) < self._wanted:
            return frames
        self._wanted = 0
        try:
            while self._buffer and self._read():
                frames.append(self._take())
        except _MalformedError:
            self._broken = True
            frames.append(UnparsedBytes(bytes(self._buffer)))
            self._buffer.clear()
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
            end = _line_end(buffer, 0)
            if end < 0:
                return False
            self._missing = max(0, _integer(buffer[1:end], low=-MAX_ELEMENTS, high=MAX_ELEMENTS))
            self._at = end + 2
        while self._missing:
            if not self._read_bulk():
                return False
            self._missing -= 1
        return True

    def _read_bulk(self) -> bool:
        buffer, at = self._buffer, self._at
        end = _line_end(buffer, at)
        if end < 0:
            return False
        if buffer[at] != 0x24:  # $
            raise _MalformedError
        start = end + 2
        stop = start + _integer(buffer[at + 1 : end], low=0, high=MAX_BULK_BYTES)
        if len(buffer) < stop + 2:
            self._wanted = stop + 2
            return False
        # The server does not look at the two bytes after a bulk; neither do we, so that both agree.
        self._args.append(bytes(buffer[start:stop]))
        self._at = stop + 2
        return True

    def _read_inline(self) -> bool:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise _MalformedError
            return False
        self._args.extend(_split_inline(bytes(self._buffer[:end]).removesuffix(b"\r")))
        self._at = end + 1
        return True


class ReplyParser:
    """Frames what a server sends: every RESP2 and RESP3 type, attributes, streamed strings and aggregates."""

    __slots__ = ("_at", "_broken", "_buffer", "_stack", "_wanted")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0  # where the next unread element of the frame in hand begins
        self._stack: list[int] = []  # per open aggregate, the elements still to come; -1: streamed, until a `.`
        self._wanted = 0
        self._broken = False

    def feed(self, data: bytes) -> list[Reply | UnparsedBytes]:
        """The frames that `data` completes."""
        if self._broken:
            return [UnparsedBytes(data)] if data else []
        if not self._buffer and data[:1] in _SIMPLE and data.find(b"\r\n", 1) == len(data) - 2 > 0:
            return [Reply(data)]  # most replies by far are one short line
        self._buffer += data
        frames: list[Reply | UnparsedBytes] = []
        if len(self._buffer) < self._wanted:
            return frames
        self._wanted = 0
        try:
            while self._buffer and self._read():
                frames.append(self._take())
        except _MalformedError:
            self._broken = True
            frames.append(UnparsedBytes(bytes(self._buffer)))
            self._buffer.clear()
        return frames

    def pending(self) -> bytes:
        """What has come of a frame that is not whole yet."""
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
        """Read one header or leaf. None: not there yet. True: an aggregate was opened, or what was read counts for
        nothing (an attribute, a chunk). False: an element is complete."""
        buffer, at = self._buffer, self._at
        end = _line_end(buffer, at)
        if end < 0:
            return None
        kind = buffer[at]
        if (kind == 0x3B) != bool(self._stack and self._stack[-1] == _CHUNKS):  # ; chunks, and only they, fill a string
            raise _MalformedError
        if kind in _LINES:
            self._at = end + 2
            return False
        header = buffer[at + 1 : end]
        if kind in _BULKS:
            return self._read_bulk(kind, header, end + 2)
        if kind in _AGGREGATES:
            self._at = end + 2
            return self._open(kind, header)
        if kind == 0x2E and self._stack and self._stack[-1] == -1 and not header:  # . ends a streamed aggregate
            self._at = end + 2
            self._stack.pop()
            return False
        raise _MalformedError

    def _read_bulk(self, kind: int, header: bytearray, start: int) -> bool | None:
        if kind == 0x24 and header == b"?":  # a streamed string: chunks follow, the empty one ends it
            self._at = start
            self._stack.append(_CHUNKS)
            return True
        in_chunks = kind == 0x3B
        length = _integer(header, low=-1 if kind == 0x24 else 0, high=MAX_ELEMENTS)
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
            raise _MalformedError
        self._at = stop + 2
        return in_chunks

    def _open(self, kind: int, header: bytearray) -> bool:
        if header == b"?" and kind in _STREAMABLE:
            self._stack.append(-1)
            return True
        count = _integer(header, low=-1 if kind == 0x2A else 0, high=MAX_ELEMENTS) * _AGGREGATES[kind]
        if kind == 0x7C:  # an attribute: its pairs come before the element that they describe
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
_BULKS = frozenset(b"$!=;")
#: Elements per announced unit, by type: array, set, push, map, attribute.
_AGGREGATES = {0x2A: 1, 0x7E: 1, 0x3E: 1, 0x25: 2, 0x7C: 2}
_STREAMABLE = frozenset(b"*~%")


def _line_end(buffer: bytearray, at: int) -> int:
    end = buffer.find(b"\r\n", at)
    if end < 0 and len(buffer) - at > MAX_LINE_BYTES:
        raise _MalformedError
    return end


def _integer(text: bytearray, *, low: int, high: int) -> int:
    """The number that `text` is, read as strictly as the server does: no plus, no blanks, no leading zeros."""
    small = _SMALL.get(bytes(text))
    if small is not None and low <= small <= high:
        return small
    if not text or len(text) > 20 or (text[0] == 0x30 and len(text) > 1):
        raise _MalformedError
    if not text.isdigit() and not (text[0] == 0x2D and text[1:].isdigit() and text[1] != 0x30):
        raise _MalformedError
    number = int(text)
    if not low <= number <= high:
        raise _MalformedError
    return number


#: The numbers that nearly every header holds, for speed.
_SMALL = {b"%d" % number: number for number in range(256)}

_ESCAPES = {0x6E: 0x0A, 0x72: 0x0D, 0x74: 0x09, 0x62: 0x08, 0x61: 0x07}
_BLANKS = frozenset(b" \t\n\r\v\f\0")
_HEX = frozenset(b"0123456789abcdefABCDEF")


def _split_inline(line: bytes) -> list[bytes]:
    """The arguments of an inline command, quotes and escapes undone as the server's `sdssplitargs` does."""
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
                raise _MalformedError  # the server wants a blank after a closing quote
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
    raise _MalformedError


def _read_escape(line: bytes, at: int, word: bytearray, quote: int) -> int:
    after = line[at + 1]
    if quote == 0x27:  # between single quotes only \' means anything
        word.append(0x27 if after == 0x27 else 0x5C)
        return at + (2 if after == 0x27 else 1)
    digits = line[at + 2 : at + 4]
    if after == 0x78 and len(digits) == 2 and set(digits) <= _HEX:
        word.append(int(digits, 16))
        return at + 4
    word.append(_ESCAPES.get(after, after))
    return at + 2


def decode_reply(raw: bytes) -> Value:
    r"""The value of one whole reply. Attributes are left out; a map is a dict, sets and pushes are lists.

    >>> decode_reply(b"*3\r\n:1\r\n$-1\r\n%1\r\n+a\r\n#t\r\n")
    [1, None, {b'a': True}]
    """
    value, end = _decode(raw, 0)
    if end != len(raw):
        raise ValueError(f"not one whole reply: {raw[:60]!r}")
    return value


def _decode(raw: bytes, at: int) -> tuple[Value, int]:
    end = raw.find(b"\r\n", at)
    if end < 0:
        raise ValueError(f"not one whole reply: {raw[:60]!r}")
    kind, text, after = raw[at], raw[at + 1 : end], end + 2
    if kind in _BULKS:
        return _decode_bulk(raw, kind, text, after)
    if kind in _AGGREGATES:
        return _decode_aggregate(raw, kind, text, after)
    match chr(kind):
        case "+" | "(":
            return (text if kind == 0x2B else int(text)), after
        case "-":
            return ReplyError(text.decode("utf-8", "replace")), after
        case ":":
            return int(text), after
        case ",":
            return float(text), after
        case "#":
            return text == b"t", after
        case "_":
            return None, after
        case _:
            raise ValueError(f"not one whole reply: {raw[:60]!r}")


def _decode_bulk(raw: bytes, kind: int, text: bytes, after: int) -> tuple[Value, int]:
    if text == b"?":
        chunks: list[bytes] = []
        while True:
            chunk, after = _decode(raw, after)
            if not isinstance(chunk, bytes) or not chunk:
                return b"".join(chunks), after
            chunks.append(chunk)
    length = int(text)
    if length == -1:
        return None, after
    if kind == 0x3B and length == 0:
        return b"", after
    body = raw[after : after + length]
    if kind == 0x21:
        return ReplyError(body.decode("utf-8", "replace")), after + length + 2
    return (body[4:] if kind == 0x3D else body), after + length + 2  # a verbatim string begins with its format, "txt:"


def _decode_aggregate(raw: bytes, kind: int, text: bytes, at: int) -> tuple[Value, int]:
    if text == b"-1":
        return None, at
    items: list[Value] = []
    left = -1 if text == b"?" else int(text) * _AGGREGATES[kind]
    while left:
        if left < 0 and raw[at : at + 3] == b".\r\n":
            at += 3
            break
        item, at = _decode(raw, at)
        items.append(item)
        left -= 1
    if kind == 0x7C:
        return _decode(raw, at)
    if kind == 0x25:
        return {_hashable(key): value for key, value in zip(items[::2], items[1::2], strict=True)}, at
    return items, at


def _hashable(value: Value) -> object:
    if isinstance(value, list):
        return tuple(_hashable(item) for item in value)
    if isinstance(value, dict):
        return tuple((key, _hashable(item)) for key, item in value.items())
    return value
