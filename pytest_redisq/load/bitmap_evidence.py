"""The bitmaps of a load run as evidence for the checker (`check.Evidence`)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from pyroaring import BitMap64

from pytest_redisq.check import ErrorCount, Knowledge, Share
from pytest_redisq.check.evidence import Counts, Example, Messages, Missing, Recovery, Repeat
from pytest_redisq.history import FaultRecord, FoundPlace, Search
from pytest_redisq.load.codec import MAX_SEQUENCE, PRODUCERS_OF_A_PROCESS, SEQUENCE_BITS, key_of, message_of
from pytest_redisq.load.deliveries import END, LIST, Received, following
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.model import UNREADABLE, Message, Op

#: The most ranges of each anomaly that are kept.
KEPT_RANGES = 10


@dataclass(frozen=True, slots=True)
class KeySet:
    """Messages by their keys, as `check.evidence.Messages`."""

    keys: BitMap64

    def __len__(self) -> int:
        return len(self.keys)

    def runs(self) -> Iterator[tuple[Message, int]]:
        keys, key = self.keys, following(self.keys, 0)
        while key < END:
            length = _run_length(keys, key)
            yield message_of(key), length
            key = following(keys, key + length)

    def split(self, number: int) -> tuple[Messages, Messages]:
        if number >= len(self.keys):
            return self, KeySet(BitMap64())
        first = BitMap64(islice(self.keys, number))
        return KeySet(first), KeySet(self.keys - first)


def _run_length(keys: BitMap64, start: int) -> int:
    """The number of consecutive keys of one producer from `start` on."""
    most = min(len(keys), MAX_SEQUENCE - (start & (MAX_SEQUENCE - 1)))

    def broken(length: int) -> bool:
        there: int = keys.range_cardinality(start, start + length)
        return there < length

    return bisect_left(range(1, most + 1), True, key=broken)


class BitmapEvidence:
    """`check.Evidence` of merged records.

    * `ledger`: the records.
    * `unsettled`: reasons why missing messages may still arrive; default: none.
    * `absent`: the processes, by number, whose records are missing; default: none. No message that may belong to their
      records is called lost, stuck or unexpected.
    * `errors`: the errors of operations; default: none.
    * `strikes`: the faults that struck, by the wall clock; default: none.
    * `search`: the result of a search of the server's keys; default: none. The messages found are in the ledger as
      remaining or pending.
    * `trim_doubt`: why the messages that the ledger has as trimmed need not have been removed by a bound; default: "".
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        unsettled: Sequence[str] = (),
        absent: Mapping[int, str] | None = None,
        errors: Sequence[ErrorCount] = (),
        search: Search | None = None,
        strikes: Sequence[FaultRecord] = (),
        trim_doubt: str = "",
    ) -> None:
        self._ledger = ledger
        self._unsettled = unsettled
        self._absent = absent or {}
        self._tried = ledger.tried()
        self._acknowledged = self._tried - ledger.failed - ledger.unknown
        self._errors = errors
        self._strikes = strikes
        self.notes: tuple[str, ...] = ()
        self.trim_doubt: str = trim_doubt
        #: Faults strike a load run from outside. `load.timed_faults` adds their records to the report.
        self.faults: Sequence[FaultRecord] = ()
        self._search_gap = search.gap if search else ""
        self.searched: bool = search is not None
        self.places: Sequence[FoundPlace] = search.places if search else ()
        self.enqueue_ids = Knowledge.UNRECORDED

    def shares(self, *, fan_out: bool) -> Sequence[Share]:
        """One share for each reader. Its consumers share the messages, also if the contract is fan-out."""
        readers = self._ledger.readers
        if not readers and not fan_out:
            readers = {"": Received(coverage=LIST.ordered(True))}  # there was no consumer, so nothing is recorded
        return [
            BitmapShare(
                reader=name,
                ledger=self._ledger,
                received=received,
                tried=self._tried,
                acknowledged=self._acknowledged,
                absent=tuple(self._absent),
                fan_out=fan_out,
            )
            for name, received in sorted(readers.items())
        ]

    def unsettled(self) -> Sequence[str]:
        reasons = [*self._unsettled, *(f"the records of {name} are missing" for name in self._absent.values())]
        if reasons and (pending := len(self._ledger.pending)):
            why = "perhaps in a process whose records are missing" if self._absent else "and may still be acknowledged"
            reasons.append(f"{pending:,} messages are pending, {why}")
        if self._search_gap:
            reasons.append(f"the search for missing messages is not complete: {self._search_gap}")
        return reasons

    def errors(self) -> Sequence[ErrorCount]:
        return self._errors

    def remaining(self) -> int:
        return len(self._ledger.remaining)

    def totals(self) -> Mapping[str, int]:
        ledger, readers = self._ledger, self._ledger.readers.values()
        return {
            "attempted": len(self._tried),
            "acknowledged": len(self._acknowledged),
            "failed": len(ledger.failed),
            "unknown": len(ledger.unknown - ledger.failed),
            "delivered": sum(received.delivered.total() for received in readers) + ledger.corrupted,
            "acked": sum(received.acked.total() for received in readers),
            "unknown_dequeues": sum(received.unknown_dequeues for received in readers),
            "remaining": len(ledger.remaining),
            "pending": len(ledger.pending),
        }

    def unreadable(self) -> Iterator[Example]:
        words, number = "a body that no producer of this run sent whole", self._ledger.corrupted
        examples = self._ledger.examples[:number]
        yield from (Example(UNREADABLE, f"{words}: {body!r}") for body in examples)
        if number > len(examples):
            yield Example(UNREADABLE, words, times=number - len(examples))

    def wrong_ids(self) -> Iterator[Example]:
        return iter(())

    def recoveries(self, *, fan_out: bool) -> Iterator[Recovery] | None:  # noqa: ARG002
        logs = self._ledger.logs
        return logs.recoveries(self._strikes) if logs.consumers and not self._absent else None

    def failed_work(self, messages: set[Message]) -> Mapping[Message, int]:
        failures = [received.work_failed for received in self._ledger.readers.values()]
        return {message: sum(failed[key_of(*message)] for failed in failures) for message in messages}

    def last_seen(self, messages: set[Message]) -> Mapping[Message, Op]:  # noqa: ARG002
        return {}


@dataclass(frozen=True, kw_only=True)
class BitmapShare:
    """`check.Share` of one reader, or of all consumers that share a queue."""

    reader: str
    ledger: Ledger
    received: Received
    tried: BitMap64
    acknowledged: BitMap64
    absent: tuple[int, ...]
    fan_out: bool

    @property
    def ids(self) -> Knowledge:
        return self.received.coverage.ids

    @property
    def acks(self) -> Knowledge:
        return self.received.coverage.acks

    @property
    def order(self) -> Knowledge:
        return Knowledge.UNRECORDED if self._strange_order() else self.received.coverage.order

    @property
    def polls(self) -> Knowledge:
        return self.received.coverage.polls

    @property
    def excuse(self) -> float:
        return self.received.unknown_takes

    @property
    def unknown_dequeues(self) -> str:
        number = self.received.unknown_dequeues
        return {0: "", 1: "a dequeue of unknown outcome"}.get(number, f"{number} dequeues of unknown outcome")

    @property
    def repeated(self) -> int:
        return self.received.delivered.repeated.total()

    @cached_property
    def _inside(self) -> BitMap64:
        return BitMap64() if self.fan_out else self.ledger.remaining | self.ledger.pending

    @cached_property
    def _unexpected(self) -> BitMap64:
        """Messages that were delivered and never sent, as far as the producers' records are complete."""
        strange = self.received.once - self.tried
        for worker in self.absent:
            first = worker * PRODUCERS_OF_A_PROCESS << SEQUENCE_BITS
            strange.remove_range(first, first + (PRODUCERS_OF_A_PROCESS << SEQUENCE_BITS))
        return strange

    def uneven(self) -> Iterator[tuple[Counts, Messages]]:
        ledger, got = self.ledger, self.received
        uncertain = (ledger.failed | ledger.unknown) & got.once
        again = BitMap64(got.delivered.repeated) & self.tried
        uneven = (self.tried - got.once) | uncertain | again | self._unexpected | self._inside
        parts = [
            _parts(self.tried),
            _parts(self.acknowledged),
            _parts(ledger.failed),
            _times(got.once, got.delivered.repeated),
            _times(got.acked.once, got.acked.repeated),
            _parts(ledger.pending if not self.fan_out else BitMap64()),
            _parts(ledger.remaining if not self.fan_out else BitMap64()),
            _parts(ledger.trimmed),
            _by_number(got.work_failed),  # not counted: so that what is said of one message is true of all
        ]
        for (tried, sure, failed, *rest, _), keys in _refined(uneven, parts):
            yield Counts(tried, sure, tried - failed if tried else 0, *rest), KeySet(keys)

    def repeats(self) -> Iterator[Repeat]:
        got = self.received
        again = got.delivered.repeated
        order = [_parts(self.tried), _times(got.once, again), _parts(got.after_ack), _parts(got.maybe_after_ack)]
        for (tried, times, after, perhaps), keys in _refined(BitMap64(again), order):
            after_ack = True if after else None if perhaps else False
            yield Repeat(KeySet(keys), tried, times, ids=(), nameless=False, after_ack=after_ack)

    def never_delivered(self) -> Iterator[tuple[int, Messages]]:
        acked = self.received.acked
        for (times,), keys in _refined(acked.once - self.received.once, [_times(acked.once, acked.repeated)]):
            yield times, KeySet(keys)

    def in_flight(self) -> Iterator[tuple[int, Messages]]:
        got, ledger = self.received, self.ledger
        if self.acks is not Knowledge.RECORDED:
            return
        unfinished = Counter(got.failed)
        if got.acked.once or got.ack_tried or got.acks_failed:
            # Where no consumer acknowledges anything, nothing can be told from what it received last.
            unfinished.update(got.in_flight)
        gone = got.acked.once | got.ack_tried | ledger.pending | ledger.remaining | ledger.trimmed
        held = (BitMap64(unfinished) & self.acknowledged & got.once) - gone
        keys = BitMap64(key for key in held if unfinished[key] >= 1 + got.delivered.repeated[key])
        for _, some in _refined(keys, [_by_number(got.work_failed)]):
            yield 1, KeySet(some)

    def missing(self) -> Iterator[Missing]:
        missing = self.acknowledged - self.received.once
        skipped = False if self.polls is Knowledge.ABSENT else None
        if thrown := missing & self.ledger.trimmed:
            yield Missing(KeySet(thrown), trimmed=True, skipped=False, owed=True)
        missing -= self.ledger.trimmed
        owed = missing if self.received.coverage.from_start else self._after_the_first(missing)
        if passed_over := self._passed_over(owed):
            yield Missing(KeySet(passed_over), trimmed=False, skipped=True, owed=True)
        unclear, owed = missing - owed, owed - passed_over
        if owed:
            yield Missing(KeySet(owed), trimmed=False, skipped=skipped, owed=True)
        if unclear:
            yield Missing(KeySet(unclear), trimmed=False, skipped=skipped, owed=None)

    def _passed_over(self, owed: BitMap64) -> BitMap64:
        """The messages of `owed` that a reader passed over: it received an earlier and a later one of that producer.

        Their ids are lower and higher: a producer sends one message after the other to the same stream.
        """
        if Knowledge.ABSENT in (self.ids, self.polls):
            return BitMap64()
        once, passed_over = self.received.once, BitMap64()
        for producer in self.ledger.attempted if owed else ():
            start = producer << SEQUENCE_BITS
            first, number = following(once, start), once.rank(start + MAX_SEQUENCE - 1)
            if first < start + MAX_SEQUENCE:
                between = BitMap64()
                between.add_range(first, once[number - 1])
                passed_over |= owed & between
        return passed_over

    def _after_the_first(self, missing: BitMap64) -> BitMap64:
        """The missing messages that were sent after a message of the same producer that the reader received.

        The reader was listening by then. This holds if entries have ids and a reader reads from one of them on.
        """
        if self.ids is Knowledge.ABSENT:
            return BitMap64()
        owed = missing.copy()
        for producer in self.ledger.attempted:
            start = producer << SEQUENCE_BITS
            first = following(self.received.once, start)
            owed.remove_range(start, min(first, start + MAX_SEQUENCE))
        return owed

    def reordered(self) -> Iterator[Messages]:
        late = self.received.reordered & self.acknowledged
        if late and not self._strange_order():
            yield KeySet(late)

    def _strange_order(self) -> bool:
        """Whether messages were delivered that certainly were not sent: order cannot be judged by them."""
        return bool(self._unexpected or self.received.once & self.ledger.failed)

    def backwards(self) -> Iterator[Example]:
        words = "delivered under an id that is not above those that the reader had already received"
        for key, times in sorted(self.received.backwards.items()):
            yield Example(message_of(key), words, times)


_Part = tuple[int, BitMap64]


def _parts(keys: BitMap64) -> list[_Part]:
    return [(1, keys)]


def _times(once: BitMap64, repeated: Counter[int]) -> list[_Part]:
    """The keys, grouped by how often they occur."""
    by_times: dict[int, BitMap64] = {}
    for key, times in repeated.items():
        by_times.setdefault(times + 1, BitMap64()).add(key)
    again = BitMap64.union(*by_times.values()) if by_times else BitMap64()
    return [(1, once - again), *sorted(by_times.items(), key=lambda each: each[0])]


def _by_number(counts: Counter[int]) -> list[_Part]:
    """The keys, grouped by their count."""
    return _times(BitMap64(counts), Counter({key: times - 1 for key, times in counts.items() if times > 1}))


def _refined(keys: BitMap64, dimensions: Sequence[Sequence[_Part]]) -> list[tuple[tuple[int, ...], BitMap64]]:
    """`keys`, grouped by their value in each dimension; 0 if no part of a dimension has them."""
    found: list[tuple[tuple[int, ...], BitMap64]] = [((), keys)] if keys else []
    for parts in dimensions:
        finer = []
        for values, some in found:
            rest = some
            for value, part in parts:
                if here := rest & part:
                    finer.append(((*values, value), here))
                    rest = rest - here
            if rest:
                finer.append(((*values, 0), rest))
        found = finer
    return found
