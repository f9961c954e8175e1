"""A stream that each reader reads completely: XADD and XREAD, without consumer groups. Resumable; gaps are reported."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, overload

import redis
import redis.asyncio

from pytest_redisq.queues.bound import AsyncBoundQueue, BoundQueue, attach
from pytest_redisq.queues.protocol import Delivery, Gap
from pytest_redisq.queues.steps import Argument, RedisCommand, Steps, command, nothing, run_script

_log = logging.getLogger(__name__)

# KEYS: stream  ARGV: last id read, count (0: no entries wanted)
# Returns the number of entries ever added (-1: unknown, before 7.0), length, last id, first id, and the entries after
# the last one read. All are of one moment, so that a missing entry can be told from one that has not been added yet.
_LOOK = """
local added, length, last, first, entries = 0, 0, '0-0', '', {}
if redis.call('EXISTS', KEYS[1]) == 1 then
  added = -1
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'entries-added' then added = info[i + 1] end
    if info[i] == 'length' then length = info[i + 1] end
    if info[i] == 'last-generated-id' then last = info[i + 1] end
    if info[i] == 'first-entry' and info[i + 1] then first = info[i + 1][1] end
  end
  if ARGV[2] ~= '0' then
    local read = redis.call('XREAD', 'COUNT', ARGV[2], 'STREAMS', KEYS[1], ARGV[1])
    if read then entries = read[1][2] end
  end
end
return {added, length, last, first, entries}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The stream `key`. Each bound reader reads every entry (fan-out).

        events = Stream("events", maxlen=100_000)
        with events.bind(client) as reader:
            reader.subscribe()               # from here on no entry is missed
            event = reader.get()             # to resume later: Stream("events", after=event.id)

    Guarantee: each reader gets each entry after its starting point once and in order. If an entry is gone, the reader
    gets a `Gap`. Reading changes nothing on the server. So after an error in `get` nothing is unknown: the next call
    goes on after the last entry that was returned. To lose nothing in a crash, store `event.id` after the work.

    * `key`: the stream.
    * `after`: where a reader starts: "$" (entries added after `subscribe`; default), "0" (the oldest entry), or an id.
      `subscribe` or the first `get` replaces "$" by the stream's last id. XREAD never gets "$": there it would mean the
      end of the stream at each call.
    * `field`: the field of an entry that holds the body; default "body".
    * `maxlen`: `put` trims the stream to this length; default: no limit. With `approximate` (default) some more entries
      may be kept.
    * `batch`: the most entries that are read at once; default 100.

    Gaps are counted exactly with Redis 7.0 or later, for entries trimmed or deleted with XDEL. The count is a lower
    bound (`Gap.exact` is False) in three cases: the stream was deleted and created again, the server is older, or a
    resumed reader whose starting point is gone has not reached the end of the stream yet.
    """

    key: str = field(kw_only=False)
    after: str = "$"
    field: str = "body"
    maxlen: int | None = None
    approximate: bool = True
    batch: int = 100

    @overload
    def bind(self, client: redis.Redis, /, worker: str | None = None) -> BoundQueue: ...
    @overload
    def bind(self, client: redis.asyncio.Redis, /, worker: str | None = None) -> AsyncBoundQueue: ...
    def bind(self, client: Any, /, worker: str | None = None) -> Any:  # noqa: ARG002  readers need no names
        """A reader and writer of this stream."""
        return attach(self, StreamEndpoint(self), client)


#: An entry's id, and its fields: name, value, name, value…
Entry: TypeAlias = tuple[str, list[bytes]]


class _Look(NamedTuple):
    added: int
    length: int
    last_id: str
    first_id: str
    entries: list[Entry]


class StreamEndpoint:
    """The logic of one reader, without IO.

    Law of the gaps: `accounted` counts the entries ever added at or before `last_id`, read or known to be missing. Then
    `added - accounted` entries were added after `last_id`, and those of them that no longer exist are missing. How many
    exist is known if the read reached the end of the stream, or if the oldest entry of all lies after `last_id`.
    """

    beat_seconds: float | None = None

    def __init__(self, queue: Stream, clock: Callable[[], float] = lambda: time.monotonic()) -> None:
        self._queue = queue
        self._clock = clock
        self._last_id: str | None = None
        self._accounted: int | None = None
        self._sure_since = ""  # the last id up to which `_gaps` is complete
        self._unread: deque[Entry] = deque()
        self._gaps: list[Gap] = []

    def put(self, body: bytes) -> Steps[str | None]:
        entry_id = yield add_entry(
            self._queue.key, self._queue.field, body, self._queue.maxlen, self._queue.approximate
        )
        return str(entry_id.decode())

    def subscribe(self) -> Steps[None]:
        if self._last_id is not None:
            return
        look = yield from self._look("0-0", 0)
        after = self._queue.after
        if after == "$":
            self._last_id, self._accounted = look.last_id, _known(look.added)
        elif after in ("0", "0-0"):
            self._last_id, self._accounted = "0-0", _known(look.added - look.length)
        else:
            self._last_id = after
            if position(after) >= position(look.last_id):
                self._accounted = _known(look.added)
        self._sure_since = self._last_id

    def get(self, timeout_seconds: float | None) -> Steps[Delivery | None]:
        yield from self.subscribe()
        deadline = None if timeout_seconds is None else self._clock() + timeout_seconds
        while not self._unread:
            yield from self._look_and_read()
            left = math.inf if deadline is None else deadline - self._clock()
            if self._unread or left <= 0:
                break
            yield from self._wait(None if deadline is None else left)
        return delivery_of(self._queue.key, self._queue.field, *self._unread.popleft()) if self._unread else None

    def _wait(self, seconds: float | None) -> Steps[None]:
        assert self._last_id is not None
        block_ms = 0 if seconds is None else max(1, math.ceil(seconds * 1000))
        limits = ("COUNT", self._queue.batch, "BLOCK", block_ms)
        reply = yield RedisCommand(("XREAD", *limits, "STREAMS", self._queue.key, self._last_id), seconds)
        self._read([] if reply is None else decoded(reply[0][1]))

    def _look_and_read(self) -> Steps[None]:
        assert self._last_id is not None
        look = yield from self._look(self._last_id, self._queue.batch)
        self._account(look)
        self._read(look.entries)

    def _read(self, entries: list[Entry]) -> None:
        self._unread.extend(entries)
        if entries:
            self._last_id = entries[-1][0]
        if self._accounted is not None:
            self._accounted += len(entries)

    def _at_end(self, look: _Look) -> bool:
        return len(look.entries) < self._queue.batch

    def _account(self, look: _Look) -> None:
        """Compare how many entries were added after `last_id` with how many of them exist. Call it before `_read`."""
        assert self._last_id is not None
        before = look.entries[0][0] if look.entries else None
        front_is_gone = position(look.first_id or look.last_id) > position(self._last_id)
        there = len(look.entries) if self._at_end(look) else look.length if front_is_gone else None
        if self._accounted is None:
            if front_is_gone:
                self._report(Gap(after_id=self._last_id, before_id=before, entries=0, exact=False))
        elif look.added < self._accounted:  # another stream of that name
            self._report(Gap(after_id=self._last_id, before_id=before, entries=look.added - look.length, exact=False))
        elif there is not None and (missing := look.added - self._accounted - there) > 0:
            self._report(Gap(after_id=self._sure_since, before_id=before, entries=missing, exact=True))
        if there is not None:
            self._accounted = _known(look.added - there)
            self._sure_since = self._last_id

    def _report(self, gap: Gap) -> None:
        self._gaps.append(gap)
        _log.warning("stream %s: entries were gone before they were read: %s", self._queue.key, gap)

    def ack(self, delivery: Delivery) -> Steps[bool]:  # noqa: ARG002  the server keeps nothing for a reader
        return nothing(True)

    def give_back(self, delivery: Delivery) -> Steps[None]:
        self._unread.appendleft((delivery.id or "", [self._queue.field.encode(), delivery.body]))
        return nothing(None)

    def recover(self) -> Steps[int]:
        return nothing(0)

    def remaining(self) -> Steps[list[bytes]]:
        """The bodies that this reader has not received yet."""
        yield from self.subscribe()
        entries = yield from entries_after(self._queue.key, self._last_id or "0-0")
        unread = [*self._unread, *entries]
        return [delivery_of(self._queue.key, self._queue.field, *entry).body for entry in unread]

    def pending(self) -> Steps[list[bytes]]:
        return nothing([])

    def trimmed(self) -> Steps[list[Gap]]:
        return nothing(list(self._gaps))

    def beat(self) -> Steps[None]:
        return nothing(None)

    def leave(self) -> Steps[None]:
        return nothing(None)

    def _look(self, after: str, count: int) -> Steps[_Look]:
        added, length, last, first, raw = yield from run_script(_LOOK, (self._queue.key,), (after, count))
        return _Look(added, length, last.decode(), first.decode(), decoded(raw))


def _known(added: int) -> int | None:
    return None if added < 0 else added


def position(entry_id: str) -> tuple[int, int]:
    """A stream ID as a sort key: milliseconds, then the number within the millisecond.

    >>> position("1700000000000-9") < position("1700000000000-10")
    True
    """
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def add_entry(key: str, field: str, body: bytes, maxlen: int | None, approximate: bool) -> RedisCommand:
    trim: tuple[Argument, ...] = () if maxlen is None else ("MAXLEN", "~" if approximate else "=", maxlen)
    return command("XADD", key, *trim, "*", field, body)


def delivery_of(key: str, field: str, entry_id: str, fields: list[bytes], count: int = 1) -> Delivery:
    """An entry as a delivery: its body is the value of `field`."""
    by_name = dict(zip(fields[::2], fields[1::2], strict=True))
    body = by_name.get(field.encode())
    if body is None:
        names = ", ".join(repr(name.decode(errors="replace")) for name in by_name)
        raise ValueError(
            f"entry {entry_id} of stream {key!r} has no field {field!r}. Its fields: {names}. Pass one as field="
        )
    return Delivery(body=body, id=entry_id, delivery_count=count, source=key)


def decoded(raw: list[Any]) -> list[Entry]:
    return [(entry_id.decode(), fields) for entry_id, fields in raw]


def entries_after(key: str, after: str) -> Steps[list[Entry]]:
    """All entries after an id, read a thousand at a time."""
    entries: list[Entry] = []
    while True:
        page = decoded((yield command("XRANGE", key, f"({after}", "+", "COUNT", 1000)))
        entries += page
        if len(page) < 1000:
            return entries
        after = entries[-1][0]
