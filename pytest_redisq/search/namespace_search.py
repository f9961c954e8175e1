"""Searches a namespace for missing messages: in which key each lies, and what the server says of it there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis

from pytest_redisq.history import FoundPlace, Search
from pytest_redisq.model import Message
from pytest_redisq.resp import Trait
from pytest_redisq.search.key_reader import BoundMetError, Element, KeyContent, KeyReader, SearchLimits, SearchMeter
from pytest_redisq.search.message_finder import FindMessages
from pytest_redisq.search.timers import IDLE_SECONDS, LEASES_SECONDS, MOST_SECONDS, ServerClock, Timer, let_time_pass
from pytest_redisq.search.trimming import StreamBounds, position
from pytest_redisq.servers import Address

#: Of each message so many places are kept.
_PLACES_PER_MESSAGE = 2
#: So many keys are searched at a glance.
_GLANCE_KEYS = 50
#: Types of keys whose elements may be numbers.
_NUMBERED = frozenset({"string", "zset", "hash"})
#: Of each group so many pending entries are looked at, in a search that looks at nothing else.
_PENDING_ENTRIES = 1_000
#: The bounds of a search for pending entries, which is made although nothing is missing.
_PENDING_LIMITS = SearchLimits(keys=1_000, bytes=1 << 20, seconds=0.5)
#: The bounds of a search for streams, which is made before a run begins.
_STREAM_LIMITS = SearchLimits(keys=1_000, bytes=1 << 20, seconds=0.2)
#: The bounds of a brief search.
_BRIEF_LIMITS = SearchLimits(keys=200, bytes=1 << 18, seconds=0.1)
#: The most moments and times to live that are aged.
_TIMERS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found.

    * `places`: where the messages lie.
    * `pending`: those that a consumer of a stream's group has received and not acknowledged.
    * `due`: those that come back by themselves, each with the seconds until then.
    * `waiting`: those that no consumer has received so far as the server knows, and all others that were found.
    * `kept`: those in streams without a consumer group, which keep each entry whether it was read or not.
    * `timers`, `streams`: what `let_leases_pass` needs.
    * `bounds`: the ends of the streams.
    * `gap`: why the search is not complete; empty if it is.
    """

    places: tuple[FoundPlace, ...] = ()
    pending: frozenset[Message] = frozenset()
    due: Mapping[Message, float] = field(default_factory=dict)
    waiting: frozenset[Message] = frozenset()
    kept: frozenset[Message] = frozenset()
    timers: tuple[Timer, ...] = ()
    streams: tuple[bytes, ...] = ()
    bounds: tuple[StreamBounds, ...] = ()
    gap: str = ""

    @property
    def inside(self) -> frozenset[Message]:
        """All that a consumer may still get."""
        return self.pending | self.waiting

    @property
    def found(self) -> frozenset[Message]:
        """All that were found, except those that a group has no more to do with."""
        return self.inside | self.kept

    def out_of_reach(self, seen: Trait) -> frozenset[Message]:
        """Those found that no consumer will get, if a new one has asked in vain after every lease had run out.

        Not those that are due later; nor those pending, if a worker goes by the idle times of consumers (`seen`): these
        cannot be aged.
        """
        waits = self.pending if Trait.ASKS_IDLE in seen else frozenset[Message]()
        return self.found - self.due.keys() - waits

    def idle_notes(self, seen: Trait) -> Iterator[str]:
        """What to do about pending messages that may come back by the idle time of their consumer."""
        if self.pending and Trait.ASKS_IDLE in seen:
            yield (
                "a worker asks for the idle times of consumers (XINFO CONSUMERS), which redisq cannot age: pending "
                "messages may come back later. Use a shorter idle time in the test, or give settle_seconds more than it"
            )

    @property
    def placed(self) -> frozenset[Message]:
        """All that lie in some key."""
        return frozenset(message for place in self.places for message in place.messages)

    @property
    def record(self) -> Search:
        """The result for the history."""
        return Search(places=self.places, gap=self.gap)


class _Spot(NamedTuple):
    """Where messages lie: their place, but for its messages. `kind`: one of the fields of `SearchResult`."""

    key: str
    type: str
    state: str
    kind: str


class NamespaceSearch:
    """Searches the namespace at `address`.

    * `find`: finds the messages of the run in a value.
    * `limits`: the bounds of each search.

    It opens a client of its own, and closes it at the end of each search. A search writes nothing.
    """

    def __init__(self, address: Address, find: FindMessages, limits: SearchLimits | None = None) -> None:
        self._address = address
        self._find = find
        self._limits = limits or SearchLimits()

    def search(self, wanted: Container[Message]) -> SearchResult:
        """Look for `wanted` in every key. An error of the server ends the search, and is the result's `gap`."""
        return self._passed(wanted, _SearchPass.read, self._limits)

    def _passed(
        self, wanted: Container[Message], read: Callable[[_SearchPass, SearchMeter], None], limits: SearchLimits
    ) -> SearchResult:
        with Address(url=self._address.url).client(socket_timeout=max(1.0, limits.seconds)) as client:
            pass_ = _SearchPass(client, self._address.prefix, self._find, wanted)
            gap = ""
            try:
                read(pass_, SearchMeter(limits))
            except BoundMetError as bound:
                gap = str(bound)
            except redis.RedisError as error:
                gap = f"it was ended by the server: {error}"
            return pass_.result(gap)

    def search_briefly(self, wanted: Container[Message]) -> SearchResult:
        """Look for `wanted` in the first keys, for some milliseconds. Errors as for `search`."""
        return self._passed(wanted, _SearchPass.read, _BRIEF_LIMITS)

    def search_pending(self, wanted: Container[Message]) -> SearchResult:
        """Look for `wanted` among the entries that consumers of streams' groups have received and not acknowledged.

        It takes some milliseconds, since it reads no other key and no other entry. Errors as for `search`.
        """
        return self._passed(wanted, _SearchPass.read_pending, _PENDING_LIMITS)

    def search_streams(self) -> SearchResult:
        """Look for no message, only at the ends of the streams. Errors as for `search`."""
        return self._passed((), _SearchPass.read_streams, _STREAM_LIMITS)

    def let_leases_pass(
        self, result: SearchResult, at_least_seconds: float = LEASES_SECONDS, *, seen: Trait = Trait.NONE
    ) -> None:
        """Age the namespace by the longest time that is left to anything there, but for the keys with messages found.

        `seen`: what the commands of the run's workers have done; pending entries get older if they claim late.

        Only for a namespace that belongs to the run. Raises the errors of redis-py.
        """
        holders = {f"{self._address.prefix}{place.key}".encode() for place in result.places}
        timers = [timer for timer in result.timers if timer.unit or timer.key not in holders]
        seconds = min(MOST_SECONDS, max([at_least_seconds, *(timer.left_seconds + 1 for timer in timers)]))
        with Address(url=self._address.url).client() as client:
            idle_seconds = MOST_SECONDS if Trait.CLAIMS_LATE in seen else IDLE_SECONDS
            let_time_pass(client, timers, result.streams, seconds, idle_seconds)


class _SearchPass:
    """One pass over all keys."""

    def __init__(self, client: redis.Redis, prefix: str, find: FindMessages, wanted: Container[Message]) -> None:
        self._client = client
        self._prefix = prefix
        self._find = find
        self._wanted = wanted
        self._clock = ServerClock(0.0)
        self._found: defaultdict[_Spot, list[Message]] = defaultdict(list)
        self._due: dict[Message, float] = {}
        self._timers: list[Timer] = []
        self._streams: list[bytes] = []
        self._bounds: list[StreamBounds] = []
        self._entries: defaultdict[bytes, dict[bytes, list[Message]]] = defaultdict(dict)

    def read(self, meter: SearchMeter) -> None:
        self._clock = ServerClock.of(self._client)
        for contents in KeyReader(self._client, self._prefix, meter).contents():
            for start in range(0, len(contents), _GLANCE_KEYS):
                self._read_some(contents[start : start + _GLANCE_KEYS])
        for key, entries in self._entries.items():
            self._place_entries(key, entries)

    def _read_some(self, contents: Sequence[KeyContent]) -> None:
        """Look for messages in some keys: in all small ones at a glance, and in each if any may be there."""
        small = [content for content in contents if isinstance(content.elements, list)]
        values = (value for content in small for element in content.elements for value in element.values)
        lacks = self._find.lacks(values, self._wanted)
        for content in contents:
            self._timers += self._clock.timers(content)
            if content.type == "stream":
                self._streams.append(content.key)
                self._bounds.append(StreamBounds.of(self._client, content.key, self._name(content.key)))
            if not lacks or not isinstance(content.elements, list):
                for element in content.elements:
                    self._look_at(content, element)
            elif content.type in _NUMBERED:
                for element in content.elements:
                    self._note_moment(content, element)

    def read_streams(self, meter: SearchMeter) -> None:
        """Read only the ends of streams."""
        for key in KeyReader(self._client, self._prefix, meter).streams():
            self._bounds.append(StreamBounds.of(self._client, key, self._name(key)))

    def read_pending(self, meter: SearchMeter) -> None:
        """Read only entries that are pending in some group of their stream, and finished in none."""
        reader = KeyReader(self._client, self._prefix, meter)
        for key in reader.streams():
            for element in reader.entries(key, self._unfinished(key)):
                self._look_at(KeyContent(key, "stream", None, None, ()), element)
        for key, entries in self._entries.items():
            self._place_entries(key, entries)

    def _unfinished(self, key: bytes) -> list[bytes]:
        groups: Any = self._client.xinfo_groups(key)
        pending: list[set[bytes]] = []
        for group in groups:
            found: Any = (
                self._client.xpending_range(key, group["name"], "-", "+", _PENDING_ENTRIES) if group["pending"] else ()
            )
            pending.append({entry["message_id"] for entry in found})
        held = set().union(*pending)
        for group, mine in zip(groups, pending, strict=True):
            last = position(group["last-delivered-id"])
            held = {entry_id for entry_id in held if entry_id in mine or position(entry_id) > last}
        return sorted(held)

    def result(self, gap: str) -> SearchResult:
        seen: defaultdict[Message, int] = defaultdict(int)
        places: list[FoundPlace] = []
        kinds: defaultdict[str, set[Message]] = defaultdict(set)
        # What a consumer holds says more than a copy of the message elsewhere.
        for spot, messages in sorted(self._found.items(), key=lambda each: (each[0].kind, each[0].key)):
            shown = tuple(sorted(message for message in messages if seen[message] < _PLACES_PER_MESSAGE))
            for message in shown:
                seen[message] += 1
            kinds[spot.kind].update(messages)
            if shown:
                places.append(FoundPlace(key=spot.key, type=spot.type, messages=shown, state=spot.state))
        return SearchResult(
            places=tuple(places),
            pending=frozenset(kinds["pending"]),
            due={message: left for message, left in self._due.items() if left > 0},
            waiting=frozenset(kinds["waiting"] - kinds["pending"]),
            kept=frozenset(kinds["kept"] - kinds["waiting"] - kinds["pending"]),
            timers=tuple(self._timers),
            streams=tuple(self._streams),
            bounds=tuple(self._bounds),
            gap=gap,
        )

    def _look_at(self, content: KeyContent, element: Element) -> None:
        moment = self._note_moment(content, element)
        for value in element.values:
            for message in self._find(value):
                if message in self._wanted:
                    self._note(content, element, moment, message)

    def _note_moment(self, content: KeyContent, element: Element) -> tuple[int, float] | None:
        """The moment that an element names, if it does."""
        if element.number is None:
            return None
        moment = self._clock.moment(element.number)
        if moment is not None and len(self._timers) < _TIMERS:
            name = element.values[0] if content.type == "zset" else element.name
            self._timers.append(Timer(content.key, content.type, name, element.number, *moment))
        return moment

    def _note(self, content: KeyContent, element: Element, moment: tuple[int, float] | None, message: Message) -> None:
        if content.type == "stream":
            self._entries[content.key].setdefault(element.name, []).append(message)
            return
        if content.type == "zset" and moment is not None:
            self._due[message] = moment[1]
        self._add(content.key, content.type, _state(content, element, moment), "waiting", message)

    def _add(self, key: bytes, kind_of_key: str, state: str, kind: str, message: Message) -> None:
        messages = self._found[_Spot(self._name(key), kind_of_key, state, kind)]
        if message not in messages[-1:]:
            messages.append(message)

    def _name(self, key: bytes) -> str:
        return _text(key).removeprefix(self._prefix)

    def _place_entries(self, key: bytes, entries: dict[bytes, list[Message]]) -> None:
        """What the groups of a stream say of the entries found in it."""
        groups: Any = self._client.xinfo_groups(key)
        for entry_id, messages in entries.items():
            state, kind = self._entry_state(key, entry_id, groups)
            for message in messages:
                self._add(key, "stream", state, kind, message)

    def _entry_state(self, key: bytes, entry_id: bytes, groups: list[dict[str, Any]]) -> tuple[str, str]:
        if not groups:
            return "which has no consumer group", "kept"
        for group in groups:
            name: bytes = group["name"]
            pending: Any = self._client.xpending_range(key, name, entry_id, entry_id, 1)
            for entry in pending:
                idle = entry["time_since_delivered"] / 1000
                since = f" for {in_words(idle)}" if 1 <= idle < LEASES_SECONDS else ""  # longer: it was aged
                return f"pending to consumer {_text(entry['consumer'])} of group {_text(name)}{since}", "pending"
        for group in groups:
            if position(group["last-delivered-id"]) < position(entry_id):
                return f"which group {_text(group['name'])} has not read so far", "waiting"
        names = " and ".join(_text(group["name"]) for group in groups)
        return f"where group {names} has no more to do with it: acknowledged, or read with NOACK", "done"


def _state(content: KeyContent, element: Element, moment: tuple[int, float] | None) -> str:
    if content.type == "zset" and moment is not None:
        left = moment[1]
        return f"due in {in_words(left)}" if left > 0 else "which was due"
    if content.life_seconds is not None:
        return f"which expires in {in_words(content.life_seconds)}"
    if content.idle_seconds:
        return f"which nothing has read for {in_words(content.idle_seconds)}"
    if content.type == "hash":
        return f"field {_text(element.name)}" if len(element.name) <= _SHOWN_BYTES else ""
    return ""


_SHOWN_BYTES = 40


def in_words(seconds: float) -> str:
    """A time in words: "29 min", "20 s"."""
    if seconds >= 5_400:
        return f"{seconds / 3_600:.0f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
