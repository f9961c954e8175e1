"""Reads every key of a namespace: its type, its time to live, how long nothing has read it, and what it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import redis

#: Keys that one SCAN looks at, and one script reads.
_SCAN_KEYS, _SCRIPT_KEYS = 5_000, 500
#: A key of more bytes is read in pieces of so many elements.
_SMALL_BYTES, _PIECE = 1 << 16, 1_000

# KEYS: keys to read  ARGV: the most bytes of a key that is returned whole
# Of each key: type, milliseconds to live (-1: for ever), seconds since it was last read (-1: unknown), and what it
# holds, as the command of its type returns it (nil where it is larger). One script for hundreds of keys, since reading
# them by single commands takes ten times as long.
_READ = """
local found = {}
for number, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  local idle = redis.pcall('OBJECT', 'IDLETIME', key)
  if type(idle) ~= 'number' then idle = -1 end
  local life, bytes, held = redis.call('PTTL', key), redis.pcall('MEMORY', 'USAGE', key), false
  if type(bytes) == 'number' and bytes <= tonumber(ARGV[1]) then
    if kind == 'string' then held = {redis.call('GET', key)}
    elseif kind == 'list' then held = redis.call('LRANGE', key, 0, -1)
    elseif kind == 'set' then held = redis.call('SMEMBERS', key)
    elseif kind == 'zset' then held = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    elseif kind == 'hash' then held = redis.call('HGETALL', key)
    elseif kind == 'stream' then held = redis.call('XRANGE', key, '-', '+')
    end
  end
  found[number] = {kind, life, idle, held}
end
return found
"""


class Element(NamedTuple):
    """One element of a key. `name`: a hash's field or a stream's id. `number`: its score, or its value as a number."""

    values: tuple[bytes, ...]
    name: bytes = b""
    number: float | None = None


class BoundMetError(Exception):
    """The search has met one of its bounds; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLimits:
    """The most keys and bytes that a search reads, and the seconds that it may take."""

    keys: int = 1_000_000
    bytes: int = 1 << 28
    seconds: float = 30.0


@dataclass(slots=True)
class SearchMeter:
    """Counts what a search has read. Raises `BoundMetError` when it exceeds its limits."""

    limits: SearchLimits
    clock: Callable[[], float] = time.monotonic
    keys: int = 0
    bytes: int = 0
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    def count(self, *, keys: int = 0, size: int = 0) -> None:
        """Count so many keys and bytes."""
        self.keys += keys
        self.bytes += size
        limits = self.limits
        if self.keys > limits.keys:
            raise BoundMetError(f"it stopped after its limit of {limits.keys:,} keys")
        if self.bytes > limits.bytes:
            raise BoundMetError(f"it stopped after its limit of {limits.bytes:,} bytes, in {self.keys:,} keys")
        if self.clock() - self.began > limits.seconds:
            raise BoundMetError(f"it stopped after its limit of {limits.seconds:g} s, in {self.keys:,} keys")


class KeyContent(NamedTuple):
    """A key and its content.

    `life_seconds`: its time to live; None: it has none. `idle_seconds`: since it was last used; None: unknown.

    `elements`: of a small key a list; of a large one they are read while they are iterated over.
    """

    key: bytes
    type: str
    life_seconds: float | None
    idle_seconds: int | None
    elements: Iterable[Element]


class KeyReader:
    """Reads the keys that begin with `prefix`, by a client that puts no prefix before them."""

    def __init__(self, client: redis.Redis, prefix: str, meter: SearchMeter) -> None:
        self._client = client
        self._prefix = prefix.encode()
        self._meter = meter

    def contents(self) -> Iterator[list[KeyContent]]:
        """Every key, some hundreds at a time, in no order. Raises `BoundMetError`, and the errors of redis-py."""
        connection: Any = self._client.connection_pool.make_connection()
        try:
            asked: Sequence[bytes] = ()
            for keys in self._batches():
                # The server reads these keys while the caller looks at those before them.
                connection.send_command("EVAL", _READ, len(keys), *keys, _SMALL_BYTES)
                if asked:
                    yield self._contents_of(asked, connection.read_response())
                asked = keys
            if asked:
                yield self._contents_of(asked, connection.read_response())
        finally:
            connection.disconnect()

    def _batches(self) -> Iterator[Sequence[bytes]]:
        """The keys, so many at a time as one script reads."""
        waiting: list[bytes] = []
        for keys in self._scanned():
            waiting += keys
            while len(waiting) >= _SCRIPT_KEYS:
                yield waiting[:_SCRIPT_KEYS]
                del waiting[:_SCRIPT_KEYS]
        if waiting:
            yield waiting

    def streams(self) -> Iterator[bytes]:
        """The keys that are streams. Raises as `contents` does."""
        for keys in self._scanned("stream"):
            self._meter.count(keys=len(keys))
            yield from keys

    def entries(self, key: bytes, ids: Sequence[bytes]) -> Iterator[Element]:
        """The entries of a stream that have these ids and are still there. Raises as `contents` does."""
        with self._client.pipeline(transaction=False) as pipeline:
            for entry_id in ids:
                pipeline.xrange(key, entry_id, entry_id)
            replies: Any = pipeline.execute()
        for (entry_id, fields), *_ in filter(None, replies):
            values = tuple(chain.from_iterable(fields.items()))
            self._meter.count(size=sum(map(len, values)))
            yield Element(values, name=entry_id)

    def _scanned(self, kind: str | None = None) -> Iterator[list[bytes]]:
        """The keys of a type, by default of all types, some at a time; each once."""
        seen: set[bytes] = set()
        cursor: Any = 0
        while True:
            reply: Any = self._client.scan(cursor, match=self._prefix + b"*", count=_SCAN_KEYS, _type=kind)
            cursor, keys = reply
            self._meter.count()
            new = [key for key in dict.fromkeys(keys) if key not in seen]
            seen.update(new)
            yield new
            if not cursor:
                return

    def _contents_of(self, keys: Sequence[bytes], replies: Any) -> list[KeyContent]:
        """What the script said of these keys."""
        contents = []
        size = 0
        for key, (name, life, idle, held) in zip(keys, replies, strict=True):
            kind = name.decode()
            if kind == "none":  # it has expired meanwhile
                continue
            size += _size(held)
            contents.append(
                KeyContent(
                    key,
                    kind,
                    life / 1000 if life >= 0 else None,
                    idle if idle >= 0 else None,
                    self._pieces(key, kind) if held is None else list(_ELEMENTS[kind](held)),
                )
            )
        self._meter.count(keys=len(contents), size=size)
        return contents

    def _pieces(self, key: bytes, kind: str) -> Iterator[Element]:
        """The elements of a large key, some at a time."""
        client = self._client
        match kind:
            case "string":
                pieces: Iterator[Any] = iter([[client.get(key)]])
            case "list":
                pieces = iter_pieces(lambda start: client.lrange(key, start, start + _PIECE - 1))
            case "set" | "zset" | "hash":
                pieces = self._scanned_pieces(key, kind)
            case "stream":
                pieces = self._entries(key)
            case _:
                raise BoundMetError(f"it cannot read keys of the type {kind}")
        for piece in pieces:
            self._meter.count(size=_size(piece))
            yield from _ELEMENTS[kind](piece)

    def _scanned_pieces(self, key: bytes, kind: str) -> Iterator[list[bytes]]:
        command = {"set": "SSCAN", "zset": "ZSCAN", "hash": "HSCAN"}[kind]
        cursor: Any = b"0"
        while True:
            # By a script, so that redis-py does not make the reply into something else.
            call = "return redis.call(ARGV[1], KEYS[1], ARGV[2], 'COUNT', ARGV[3])"
            reply: Any = self._client.eval(call, 1, key, command, cursor, _PIECE)
            cursor, piece = reply
            yield piece
            if int(cursor) == 0:
                return

    def _entries(self, key: bytes) -> Iterator[list[Any]]:
        start: bytes = b"-"
        while True:
            call = "return redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])"
            piece: Any = self._client.eval(call, 1, key, start, _PIECE)
            yield piece
            if len(piece) < _PIECE:
                return
            start = b"(" + piece[-1][0]


def iter_pieces(read: Callable[[int], Any]) -> Iterator[list[bytes]]:
    """The pieces that `read` returns for each start, until one is shorter."""
    start = 0
    while piece := read(start):
        yield piece
        start += len(piece)


def _size(held: Any) -> int:
    """The bytes in a reply: a list of texts, or of the entries of a stream."""
    if not held:
        return 0
    return sum(map(len, held)) if isinstance(held[0], bytes) else sum(sum(map(len, fields)) for _, fields in held)


def number_of(text: bytes) -> float | None:
    """The number that a text is; None if it is none."""
    if len(text) > 32 or not text[-1:].isdigit():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _singles(held: list[bytes]) -> Iterator[Element]:
    return (Element((value,)) for value in held)


def _texts(held: list[bytes]) -> Iterator[Element]:
    return (Element((value,), number=number_of(value)) for value in held)


def _scored(held: list[bytes]) -> Iterator[Element]:
    return (Element((member,), number=number_of(score)) for member, score in zip(held[::2], held[1::2], strict=True))


def _fields(held: list[bytes]) -> Iterator[Element]:
    pairs = zip(held[::2], held[1::2], strict=True)
    return (Element((name, value), name=name, number=number_of(value)) for name, value in pairs)


def _stream_entries(held: list[Any]) -> Iterator[Element]:
    return (Element(tuple(fields), name=entry_id) for entry_id, fields in held)


_ELEMENTS: dict[str, Callable[[Any], Iterator[Element]]] = {
    "string": _texts,
    "list": _singles,
    "set": _singles,
    "zset": _scored,
    "hash": _fields,
    "stream": _stream_entries,
}
