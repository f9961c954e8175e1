"""The deliveries of a load run, in a bit or less for each message: of one reader, or of consumers that share a queue.

The record also has, as far as it is cheap, what the laws of `check` need: which messages were acknowledged, which were
in flight at the end, and which came after a later one. `Coverage` says what is recorded, so that the checker can name
what is not. The queue's ids are never recorded: they would take more memory than everything else.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, NamedTuple, Self

from pyroaring import BitMap64

from pytest_redisq.check import Knowledge
from pytest_redisq.load.codec import MAX_SEQUENCE, SEQUENCE_BITS

#: Above every key.
END = 2**64
#: The most steps of a producer's highest sequence that are kept, to judge the order of messages.
_STEPS = 8192
#: The most flushes whose acks are kept apart, to find out whether an ack came before a delivery.
_ERAS = 64


class Coverage(NamedTuple):
    """What the record of a reader covers. The default is "unrecorded": the checker then does not judge it.

    * `ids`: the ids of deliveries; absent if deliveries have none.
    * `acks`: the acknowledgements; absent if consumers acknowledge nothing.
    * `order`: the order in which messages came.
    * `polls`: the order of the ids that a reader got; absent if it does not poll by id.
    * `from_start`: whether the reader was there before the first message was enqueued.
    """

    ids: Knowledge = Knowledge.UNRECORDED
    acks: Knowledge = Knowledge.UNRECORDED
    order: Knowledge = Knowledge.UNRECORDED
    polls: Knowledge = Knowledge.UNRECORDED
    from_start: bool = False

    def ordered(self, yes: bool) -> Coverage:
        """This coverage with the order recorded, or not."""
        return self._replace(order=Knowledge.RECORDED if yes else Knowledge.UNRECORDED)

    def merge(self, other: Coverage) -> Coverage:
        """The coverage that both have in common."""
        if self == other:
            return self
        pairs = zip(self[:4], other[:4], strict=True)
        ids, acks, order, polls = (one if one is two else Knowledge.UNRECORDED for one, two in pairs)
        return Coverage(ids, acks, order, polls, self.from_start and other.from_start)

    def dump(self) -> list[str | bool]:
        return [*(each.value for each in self[:4]), self.from_start]

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> Coverage:
        ids, acks, order, polls, from_start = dumped
        return cls(Knowledge(ids), Knowledge(acks), Knowledge(order), Knowledge(polls), from_start)


#: A list: no ids, no acks.
LIST = Coverage(
    ids=Knowledge.ABSENT,
    acks=Knowledge.ABSENT,
    polls=Knowledge.ABSENT,
    from_start=True,
)
#: A consumer group of a stream, from its beginning.
GROUP = Coverage(acks=Knowledge.RECORDED, polls=Knowledge.ABSENT, from_start=True)
#: A reader of a whole stream by XREAD, wherever it begins.
READER = Coverage(acks=Knowledge.ABSENT, polls=Knowledge.RECORDED)


class Dequeue(NamedTuple):
    """One dequeue.

    * `start`: the position of its first message among those of a flush.
    * `asked`, `ended`: its start and its end, as numbers of events. The ends of the reader's dequeues and acks in this
      process are its events. An event ended before this dequeue was invoked if its number is at most `asked`.
    """

    start: int
    asked: int
    ended: int


class AckBatch(NamedTuple):
    """An acknowledged batch: the number of the event, and the keys as in the bodies."""

    ended: int
    keys: Sequence[bytes]


@dataclass(slots=True)
class KeyMultiset:
    """How often each key occurs: `repeated` counts the occurrences after the first."""

    once: BitMap64 = field(default_factory=BitMap64)
    repeated: Counter[int] = field(default_factory=Counter)

    def add(self, keys: array[int], different: BitMap64) -> BitMap64:
        """Add `keys`, given also without repetitions. Returns those that occur more than once from now on."""
        again = different & self.once
        if again:
            self.repeated.update(again)
        if len(different) < len(keys):
            twice = {key: times - 1 for key, times in Counter(keys).items() if times > 1}
            self.repeated.update(twice)
            again |= BitMap64(twice)
        self.once |= different
        return again

    def merge(self, other: KeyMultiset) -> None:
        self.repeated.update(other.repeated)
        self.repeated.update(self.once & other.once)
        self.once |= other.once

    def total(self) -> int:
        return len(self.once) + self.repeated.total()

    def dump(self) -> list[Any]:
        return [packed(self.once), list(self.repeated.items())]

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> KeyMultiset:
        return cls(BitMap64.deserialize(dumped[0]), Counter({key: times for key, times in dumped[1]}))  # noqa: C416


class _Order:
    """Finds messages whose dequeue was invoked only after a later message of their producer had come."""

    def __init__(self) -> None:
        #: By producer: event numbers, and the highest key that had come until then; both rise.
        self._steps: dict[int, tuple[list[int], list[int]]] = {}
        #: Whether there were too many steps to keep all.
        self.blurred = False

    def late(self, keys: Iterable[int], asked: int) -> Iterator[int]:
        for key in keys:
            ends, highest = self._steps.get(key >> SEQUENCE_BITS, ((), ()))
            at = bisect_right(ends, asked) - 1
            if at >= 0 and highest[at] > key:
                yield key
            self.blurred = self.blurred or (at < 0 and len(ends) >= _STEPS // 2)

    def note(self, keys: Iterable[int], ended: int) -> None:
        for key in keys:
            ends, highest = self._steps.setdefault(key >> SEQUENCE_BITS, ([], []))
            if not highest or key > highest[-1]:
                ends.append(ended)
                highest.append(key)
                if len(ends) > _STEPS:
                    del ends[: _STEPS // 2], highest[: _STEPS // 2]


def _behind_later(keys: Iterable[int]) -> set[int]:
    """The keys of one dequeue that are always behind a later key of their producer."""
    highest: dict[int, int] = {}
    late: set[int] = set()
    seen: set[int] = set()
    for key in keys:
        producer = key >> SEQUENCE_BITS
        if key < highest.get(producer, key) and key not in seen:
            late.add(key)
        seen.add(key)
        highest[producer] = max(key, highest.get(producer, key))
    return late


class _FirstAcks:
    """Finds out whether a message was acknowledged before a dequeue was invoked."""

    def __init__(self) -> None:
        #: Numbers of the first and the last ack of a flush, and its keys.
        self._eras: list[tuple[int, int, BitMap64]] = []
        self._known = BitMap64()

    def add(self, first: int, last: int, keys: BitMap64) -> None:
        """Add acks of `keys`. `first`, `last`: the numbers of the first and the last event among them."""
        self._eras.append((first, last, keys - self._known))
        self._known |= keys
        if len(self._eras) > _ERAS:
            (first, _, some), (_, last, more), *rest = self._eras
            self._eras = [(first, last, some | more), *rest]

    def known(self, keys: BitMap64) -> BitMap64:
        return keys & self._known

    def before(self, key: int, asked: int) -> bool | None:
        """Whether the first ack of `key` had ended at the event `asked`; None: unknown. The key must have an ack."""
        first, last = next((first, last) for first, last, keys in self._eras if key in keys)
        return True if last <= asked else False if first > asked else None


@dataclass(slots=True, kw_only=True)
class Received:
    """The messages that one reader, or all consumers that share a queue, received and acknowledged.

    * `coverage`: what is recorded.
    * `delivered`, `acked`: deliveries and acknowledgements.
    * `reordered`: messages that came only after a later one of the same producer.
    * `ack_tried`: messages with an ack of unknown outcome.
    * `failed`: how often the work on a message, or its ack, failed. `acks_failed`: whether an ack did. `work_failed`:
      how often the work did.
    * `after_ack`: messages delivered by a dequeue that was invoked after an ack had ended.
    * `maybe_after_ack`: messages for which that is unknown.
    * `in_flight`: how often a message was in a consumer's last dequeue.
    * `backwards`: how often a message was delivered under an id that is not above all earlier ones.
    * `unknown_takes`: the most messages that the `unknown_dequeues` dequeues of unknown outcome may have taken.
    """

    coverage: Coverage = field(default_factory=Coverage)
    delivered: KeyMultiset = field(default_factory=KeyMultiset)
    acked: KeyMultiset = field(default_factory=KeyMultiset)
    reordered: BitMap64 = field(default_factory=BitMap64)
    ack_tried: BitMap64 = field(default_factory=BitMap64)
    after_ack: BitMap64 = field(default_factory=BitMap64)
    maybe_after_ack: BitMap64 = field(default_factory=BitMap64)
    in_flight: Counter[int] = field(default_factory=Counter)
    failed: Counter[int] = field(default_factory=Counter)
    acks_failed: bool = False
    work_failed: Counter[int] = field(default_factory=Counter)
    backwards: Counter[int] = field(default_factory=Counter)
    unknown_takes: int = 0
    unknown_dequeues: int = 0
    _order: _Order = field(default_factory=_Order)
    _first_acks: _FirstAcks = field(default_factory=_FirstAcks)

    @property
    def once(self) -> BitMap64:
        """The messages that were delivered."""
        return self.delivered.once

    def add(self, keys: array[int], dequeues: Sequence[Dequeue] = (), acks: Sequence[AckBatch] = ()) -> None:
        """Add deliveries, in the order in which they came in this process, and acks.

        * `keys`: the keys of the messages.
        * `dequeues`: the dequeues that brought all of them. Needed only if order or acks are recorded; default: none.
        * `acks`: acknowledged batches; default: none.
        """
        came = BitMap64(keys)
        if self.coverage.order is Knowledge.RECORDED:
            self._book_order(keys, dequeues, came - self.once)
        again = self.delivered.add(keys, came)
        if self.coverage.acks is Knowledge.RECORDED:
            self._book_acks(keys, dequeues, acks, again | self._first_acks.known(came))

    def _book_order(self, keys: array[int], dequeues: Sequence[Dequeue], fresh: BitMap64) -> None:
        """Note reordered messages: those of which every delivery was late."""
        for dequeue, some in _of_each(keys, dequeues):
            late = set(self._order.late(some, dequeue.asked)) | _behind_later(some)
            for key in set(some):
                if key in late and key in fresh:
                    self.reordered.add(key)
                elif key not in late:
                    self.reordered.discard(key)
            fresh -= BitMap64(some)
            self._order.note(some, dequeue.ended)
        if self._order.blurred:
            self.coverage = self.coverage.ordered(False)

    def _book_acks(
        self, keys: array[int], dequeues: Sequence[Dequeue], acks: Sequence[AckBatch], suspects: BitMap64
    ) -> None:
        asked: dict[int, int] = {}  # by key: when the last dequeue that brought it was invoked
        for dequeue, some in _of_each(keys, dequeues) if suspects else ():
            for key in some:
                if key in suspects:
                    asked[key] = max(asked.get(key, -1), dequeue.asked)
        known = self._first_acks.known(suspects)
        for key in known:
            before = self._first_acks.before(key, asked[key])
            if before is None:
                self.maybe_after_ack.add(key)
            elif before:
                self.after_ack.add(key)
        for ack in acks if asked else ():
            new = (key for key in array("Q", b"".join(ack.keys)) if key in asked and key not in known)
            self.after_ack.update(key for key in new if ack.ended <= asked[key])
        if acks:
            some = array("Q", b"".join([b"".join(ack.keys) for ack in acks]))
            acked = BitMap64(some)
            self.acked.add(some, acked)
            self._first_acks.add(acks[0].ended, acks[-1].ended, acked)

    def merge(self, other: Received) -> None:
        """Add the record of another process for the same reader. The order of events in two processes is unknown."""
        both = self.once & other.once
        self.coverage = self.coverage.merge(other.coverage)
        if self.once and other.once:
            self.coverage = self.coverage.ordered(False)
        self.reordered = (self.reordered | other.reordered) - both
        self.delivered.merge(other.delivered)
        self.acked.merge(other.acked)
        self.ack_tried |= other.ack_tried
        self.after_ack |= other.after_ack
        self.maybe_after_ack |= other.maybe_after_ack | (both & self.acked.once)
        self.in_flight.update(other.in_flight)
        self.failed.update(other.failed)
        self.acks_failed |= other.acks_failed
        self.work_failed.update(other.work_failed)
        self.backwards.update(other.backwards)
        self.unknown_takes += other.unknown_takes
        self.unknown_dequeues += other.unknown_dequeues

    def gaps(self) -> int:
        """How many messages are missing before the last delivered message of their producer.

        Another thread may call `add` at the same time.
        """
        once = self.once.copy()  # one call, which no other thread can interrupt
        gaps, key = 0, following(once, 0)
        while key < END:
            start = key >> SEQUENCE_BITS << SEQUENCE_BITS
            end = start + MAX_SEQUENCE
            whole = start + once.range_cardinality(start, end)  # the next expected key if there is no gap
            if following(once, whole) < end:
                gaps += bisect_left(range(whole, end), True, key=lambda at: following(once, at) >= end)
            key = following(once, end)
        return gaps

    def dump(self) -> dict[str, Any]:
        """The record as plain values and bytes, for Locust's messages (msgpack)."""
        dumped = {each.name: getattr(self, each.name) for each in fields(self) if not each.name.startswith("_")}
        return {name: _dumped(value) for name, value in dumped.items()}

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Self:
        """The inverse of `dump`."""
        loaded = cls(coverage=Coverage.load(dumped["coverage"]))
        for name in ("delivered", "acked"):
            setattr(loaded, name, KeyMultiset.load(dumped[name]))
        for name in ("reordered", "ack_tried", "after_ack", "maybe_after_ack"):
            setattr(loaded, name, BitMap64.deserialize(dumped[name]))
        for name in ("in_flight", "failed", "work_failed", "backwards"):
            setattr(loaded, name, Counter({key: times for key, times in dumped[name]}))  # noqa: C416
        loaded.acks_failed = dumped["acks_failed"]
        loaded.unknown_takes, loaded.unknown_dequeues = dumped["unknown_takes"], dumped["unknown_dequeues"]
        return loaded


def _dumped(value: Any) -> Any:
    match value:
        case Coverage() | KeyMultiset():
            return value.dump()
        case BitMap64():
            return packed(value)
        case Counter():
            return list(value.items())
    return value


def _of_each(keys: array[int], dequeues: Sequence[Dequeue]) -> Iterator[tuple[Dequeue, array[int]]]:
    """Each dequeue with its keys."""
    stops = [*(dequeue.start for dequeue in islice(dequeues, 1, None)), len(keys)]
    for dequeue, stop in zip(dequeues, stops, strict=False):  # without dequeues there is one stop too many
        yield dequeue, keys[dequeue.start : stop]


def following(keys: BitMap64, at: int) -> int:
    """The lowest of `keys` that is not below `at`; `END` if there is none."""
    return next(iter(keys.iter_equal_or_larger(at)), END) if at < END else END


def packed(keys: BitMap64) -> bytes:
    """The bytes of a bitmap, compressed as far as possible."""
    keys.run_optimize()
    some: bytes = keys.serialize()
    return some
