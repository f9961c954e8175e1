"""What became of every message, in a bit or less for each: the books of one process, and how several are added up.

A producer numbers its messages from 0 without a gap, so what was attempted is one number per producer; what failed,
what arrived and what is left are compressed bitmaps of keys (see message.py), which take 21 kB for 10^8 messages that
arrived without a gap and 12.5 MB at the very worst. All numbers are exact.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pyroaring import BitMap64

from pytest_redisq.load.message import MAX_SEQUENCE, SEQUENCE_BITS, key_of

#: So many unreadable bodies are kept, as far as this many bytes, to be shown.
_EXAMPLES, _EXAMPLE_BYTES = 5, 60
#: Above every key.
_END = 2**64


@dataclass(slots=True, kw_only=True)
class Received:
    """What one reader, or all consumers who share a queue, got.

    `repeated` counts the deliveries of each message after its first; `reordered` are those that came to some consumer
    only after a later one of the same producer had.
    """

    once: BitMap64 = field(default_factory=BitMap64)
    repeated: Counter[int] = field(default_factory=Counter)
    reordered: BitMap64 = field(default_factory=BitMap64)

    def book(self, keys: array[int], latest: dict[int, int] | None = None) -> None:
        """Add deliveries in the order of their arrival at one consumer.

        `latest`, its highest key of each producer so far, is given where the order is to be judged.
        """
        fresh = BitMap64(keys)
        if latest is not None:
            self._book_order(keys, latest)
        if len(fresh) < len(keys):
            self.repeated.update({key: times - 1 for key, times in Counter(keys).items() if times > 1})
        again = fresh & self.once
        if again:
            self.repeated.update(again)
        self.once |= fresh

    def _book_order(self, keys: array[int], latest: dict[int, int]) -> None:
        here: set[int] = set()
        for key in keys:
            producer = key >> SEQUENCE_BITS
            highest = latest.get(producer, -1)
            if key > highest:
                latest[producer] = key
            elif key not in self.once and key not in here:
                self.reordered.add(key)
            here.add(key)

    def merge(self, other: Received) -> None:
        """Add what another process' consumers of the same reader got."""
        self.repeated.update(other.repeated)
        self.repeated.update(self.once & other.once)
        self.once |= other.once
        self.reordered |= other.reordered

    def holes(self) -> int:
        """How many messages have not come of those that some producer sent before the last of its that has.

        Another thread may go on to `book`.
        """
        once = self.once.copy()  # one call, in which no other thread gets its turn
        holes, key = 0, _following(once, 0)
        while key < _END:
            start = key >> SEQUENCE_BITS << SEQUENCE_BITS
            end = start + MAX_SEQUENCE
            whole = start + once.range_cardinality(start, end)  # where the first to come is, if there is no hole
            if _following(once, whole) < end:
                holes += bisect_left(range(whole, end), True, key=lambda at: _following(once, at) >= end)
            key = _following(once, end)
        return holes


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The books of one process; or of all, once merged.

    `failed`: enqueues that certainly did not happen; `unknown`: those of which nobody knows. All others attempted are
    acknowledged. `unknown_takes`: the most messages that dequeues of unknown outcome may have taken. `remaining` and
    `pending` are what the queue still holds at the end, the latter already handed to some consumer.
    """

    attempted: dict[int, int] = field(default_factory=dict)
    failed: BitMap64 = field(default_factory=BitMap64)
    unknown: BitMap64 = field(default_factory=BitMap64)
    readers: dict[str, Received] = field(default_factory=dict)
    corrupted: int = 0
    examples: list[bytes] = field(default_factory=list)
    unknown_takes: int = 0
    remaining: BitMap64 = field(default_factory=BitMap64)
    pending: BitMap64 = field(default_factory=BitMap64)
    #: How many messages the queue has thrown away by a bound declared to it; known to the master only.
    trimmed: int = 0

    def attempt(self, producer: int, messages: int = 1) -> int:
        """Note that `producer` is about to enqueue so many; the sequence of the first."""
        first = self.attempted.get(producer, 0)
        if first + messages > MAX_SEQUENCE:
            raise OverflowError(f"producer {producer} has sent {MAX_SEQUENCE} messages; start another")
        self.attempted[producer] = first + messages
        return first

    def fail(self, producer: int, first: int, messages: int = 1) -> None:
        """These certainly have not been enqueued."""
        self.failed.add_range(key_of(producer, first), key_of(producer, first) + messages)

    def forget(self, producer: int, first: int, messages: int = 1) -> None:
        """Nobody knows whether these have been enqueued."""
        self.unknown.add_range(key_of(producer, first), key_of(producer, first) + messages)

    def receive(self, keys: Sequence[bytes], *, reader: str = "", latest: dict[int, int] | None = None) -> None:
        """Book the deliveries of whole bodies, given their keys as they stand there (`key_bytes`)."""
        if keys:
            self.reader(reader).book(array("Q", b"".join(keys)), latest)

    def reader(self, name: str) -> Received:
        """The books of that reader, opened if there are none."""
        return self.readers.setdefault(name, Received())

    def corrupt(self, body: bytes) -> None:
        """Book the delivery of a body that is not whole."""
        self.corrupted += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(bytes(body[:_EXAMPLE_BYTES]))

    def acknowledged(self) -> BitMap64:
        return self.tried() - self.failed - self.unknown

    def tried(self) -> BitMap64:
        """All that was attempted."""
        keys = BitMap64()
        for producer, messages in self.attempted.items():
            keys.add_range(key_of(producer, 0), key_of(producer, messages))
        return keys

    def merge(self, other: Ledger) -> None:
        """Add the books of another process. Commutative and associative; producers must not be shared."""
        shared = self.attempted.keys() & other.attempted.keys()
        if shared:
            raise ValueError(f"two processes claim to be producer {min(shared)}")
        self.attempted.update(other.attempted)
        self.failed |= other.failed
        self.unknown |= other.unknown
        for name, received in other.readers.items():
            self.reader(name).merge(received)
        self.corrupted += other.corrupted
        self.examples = sorted(self.examples + other.examples)[:_EXAMPLES]
        self.unknown_takes += other.unknown_takes
        self.remaining |= other.remaining
        self.pending |= other.pending
        self.trimmed += other.trimmed

    def dump(self) -> dict[str, Any]:
        """As plain values and bytes, to be sent (Locust's messages are msgpack)."""
        return {
            "attempted": list(self.attempted.items()),
            "failed": _packed(self.failed),
            "unknown": _packed(self.unknown),
            "readers": {
                name: {
                    "once": _packed(received.once),
                    "repeated": list(received.repeated.items()),
                    "reordered": _packed(received.reordered),
                }
                for name, received in self.readers.items()
            },
            "corrupted": self.corrupted,
            "examples": self.examples,
            "unknown_takes": self.unknown_takes,
            "remaining": _packed(self.remaining),
            "pending": _packed(self.pending),
        }

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Self:
        """The inverse of `dump`."""
        return cls(
            attempted=_pairs(dumped["attempted"]),
            failed=BitMap64.deserialize(dumped["failed"]),
            unknown=BitMap64.deserialize(dumped["unknown"]),
            readers={
                name: Received(
                    once=BitMap64.deserialize(received["once"]),
                    repeated=Counter(_pairs(received["repeated"])),
                    reordered=BitMap64.deserialize(received["reordered"]),
                )
                for name, received in dumped["readers"].items()
            },
            corrupted=dumped["corrupted"],
            examples=list(dumped["examples"]),
            unknown_takes=dumped["unknown_takes"],
            remaining=BitMap64.deserialize(dumped["remaining"]),
            pending=BitMap64.deserialize(dumped["pending"]),
        )


def _following(keys: BitMap64, at: int) -> int:
    """The lowest of `keys` that is not below `at`; `_END` if there is none."""
    return next(iter(keys.iter_equal_or_larger(at)), _END) if at < _END else _END


def _pairs(items: Iterable[Sequence[int]]) -> dict[int, int]:
    return {first: second for first, second in items}  # noqa: C416  dict() takes no pairs that are lists, to mypy


def _packed(keys: BitMap64) -> bytes:
    keys.run_optimize()
    packed: bytes = keys.serialize()
    return packed
