"""The columns of a history as evidence: the backing of run, explore and `redisq check`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, starmap

from pytest_redisq.check.bodies import unreadable_bodies, wrong_ids
from pytest_redisq.check.counted import CountedHistory
from pytest_redisq.check.evidence import (
    Counts,
    ErrorCount,
    Example,
    Knowledge,
    Messages,
    Missing,
    OneMessage,
    Recovery,
    Repeat,
    Share,
)
from pytest_redisq.check.in_flight import in_flight
from pytest_redisq.check.multiset import Multiset, differing, repeated
from pytest_redisq.check.order import reordered
from pytest_redisq.check.polls import Reader, backwards, missing_entries
from pytest_redisq.check.recovery import recoveries
from pytest_redisq.history import FaultRecord, FoundPlace, History
from pytest_redisq.history.columns import ColumnGroup
from pytest_redisq.model import Kind, Message, Op, Outcome


class ColumnEvidence:
    """`check.Evidence` of a history. Where the history has no ids or no acks, the queue has none.

    `bounded`: whether the contract allows the queue to remove messages by a bound.
    """

    def __init__(self, history: History, *, bounded: bool = False) -> None:
        self._history = history
        self._bounded = bounded
        self._counted = CountedHistory.of(history)
        self.notes: tuple[str, ...] = history.notes + (history.quiescence.notes if history.quiescence else ())
        self.faults: Sequence[FaultRecord] = history.faults
        self.trim_doubt: str = history.quiescence.trim_doubt if history.quiescence else ""
        self._search = history.quiescence.search if history.quiescence else None
        self.enqueue_ids: Knowledge = _presence(group.key.named for group in self._counted.enqueues)

    def errors(self) -> Sequence[ErrorCount]:
        """Of each operation that ended by an error. One that never ended has none."""
        counts: Counter[tuple[str, str]] = Counter()
        for group in self._history.groups:
            if group.key.error and group.key.ended and group.key.outcome is not Outcome.OK:
                counts[str(group.key.kind), group.key.error] += len(group)
        return [ErrorCount(*key, times) for key, times in counts.most_common()]

    def shares(self, *, fan_out: bool) -> Sequence[Share]:
        counted, trimmed = self._counted, self._counted.trimmed(bounded=self._bounded)
        if fan_out:
            readers = sorted(counted.readers().items())
            return [ColumnShare.of_reader(Reader.of(counted, *each), counted, trimmed) for each in readers]
        return [ColumnShare.of_all(counted, trimmed)]

    def unsettled(self) -> Sequence[str]:
        end = self._history.quiescence
        if end is None:
            return ["the history does not end in quiescence"]
        reasons = []
        if not end.producers_ended:
            reasons.append("the producers had not ended")
        if not end.faults_healed:
            reasons.append("a fault had not been healed")
        if not end.drained:
            reasons.append("the queue had not been drained")
        if any(group.invoked_ns.highest() > end.at_ns for group in self._history.groups):
            reasons.append("an op was invoked after quiescence had been declared")
        if end.search and end.search.gap:
            reasons.append(f"the search for missing messages is not complete: {end.search.gap}")
        return reasons

    @property
    def searched(self) -> bool:
        return self._search is not None

    @property
    def places(self) -> Sequence[FoundPlace]:
        return self._search.places if self._search else ()

    def remaining(self) -> int:
        return self._counted.remaining.total

    def totals(self) -> Mapping[str, int]:
        counted = self._counted
        return {
            "attempted": counted.attempted.total,
            "acknowledged": counted.acknowledged.total,
            "failed": counted.attempted.total - counted.possible.total,
            "unknown": counted.possible.total - counted.acknowledged.total,
            "delivered": sum(len(group.producers) for group in counted.dequeues),
            "acked": counted.acked.total,
            "unknown_dequeues": sum(map(len, counted.unknown_dequeues)),
            "remaining": counted.remaining.total,
            "pending": counted.pending.total,
        }

    def unreadable(self) -> Iterator[Example]:
        return unreadable_bodies(self._counted)

    def wrong_ids(self) -> Iterator[Example]:
        return wrong_ids(self._counted)

    def recoveries(self, *, fan_out: bool) -> Iterator[Recovery]:
        return recoveries(self._counted, fan_out=fan_out)

    def failed_work(self, messages: set[Message]) -> Mapping[Message, int]:
        groups = (group for group in self._history.groups if messages and group.key.kind is Kind.WORK)
        pairs = (pair for group in groups for pair in zip(group.producers, group.sequences, strict=True))
        return Counter(message for message in starmap(Message, pairs) if message in messages)

    def last_seen(self, messages: set[Message]) -> Mapping[Message, Op]:
        return last_seen(self._history, messages)


@dataclass(slots=True)
class _Deliveries:
    """The deliveries of a message that came more than once."""

    codes: set[int] = field(default_factory=set)
    nameless: bool = False
    last_invoked_ns: int = 0
    acked_ns: int | None = None

    def after_ack(self) -> bool:
        return self.acked_ns is not None and self.acked_ns < self.last_invoked_ns


@dataclass(frozen=True, kw_only=True)
class ColumnShare:
    """`check.Share` of a history: all its dequeues, or those of one reader."""

    counted: CountedHistory
    trimmed: Multiset
    dequeues: Sequence[ColumnGroup]
    delivered: Multiset
    excuse: float
    unknown_dequeues: str
    polling: Reader | None = None
    reader: str = ""
    order: Knowledge = Knowledge.RECORDED
    polls: Knowledge = Knowledge.RECORDED

    @classmethod
    def of_all(cls, counted: CountedHistory, trimmed: Multiset) -> ColumnShare:
        number = sum(map(len, counted.unknown_dequeues))
        several = "a dequeue of unknown outcome" if number == 1 else f"{number} dequeues of unknown outcome"
        return cls(
            counted=counted,
            trimmed=trimmed,
            dequeues=counted.dequeues,
            delivered=Multiset(counted.sizes, counted.dequeues),
            excuse=_excuse(counted),
            unknown_dequeues=several if number else "",
        )

    @classmethod
    def of_reader(cls, reader: Reader, counted: CountedHistory, trimmed: Multiset) -> ColumnShare:
        return cls(
            counted=counted,
            trimmed=trimmed,
            dequeues=reader.dequeues,
            delivered=reader.delivered,
            excuse=reader.excuse,
            unknown_dequeues="one of its polls of unknown outcome",
            polling=reader,
            reader=reader.name,
        )

    @cached_property
    def ids(self) -> Knowledge:
        return _presence(group.key.named for group in self.dequeues)

    @cached_property
    def acks(self) -> Knowledge:
        return _presence(map(bool, self.counted.acks))

    @property
    def repeated(self) -> int:
        return self.delivered.repeated()

    def uneven(self) -> Iterator[tuple[Counts, Messages]]:
        counted = self.counted
        inside = set(chain(counted.pending.sparse, counted.remaining.sparse)) if self.polling is None else set()
        for message in differing(counted.acknowledged, self.delivered, counted.attempted, counted.possible):
            if message.producer >= 0 and message not in inside:
                yield self._counts(message), OneMessage(message)
        for message in sorted(inside):
            yield self._counts(message), OneMessage(message)

    def _counts(self, message: Message) -> Counts:
        counted = self.counted
        return Counts(
            counted.attempted[message],
            counted.acknowledged[message],
            counted.possible[message],
            self.delivered[message],
            counted.acked[message],
            counted.pending[message],
            counted.remaining[message],
            self.trimmed[message],
        )

    def repeats(self) -> Iterator[Repeat]:
        found = {message: _Deliveries() for message in repeated(self.delivered) if message.producer >= 0}
        for group in self.dequeues if found else ():
            for message, invoked_ns, _, code in _messages(group):
                deliveries = found.get(message)
                if deliveries is not None:
                    deliveries.last_invoked_ns = max(deliveries.last_invoked_ns, invoked_ns)
                    if code is None:
                        deliveries.nameless = True
                    else:
                        deliveries.codes.add(code)
        for group in self.counted.acks if found else ():
            for message, _, ended_ns, _ in _messages(group):
                deliveries = found.get(message)
                if deliveries is not None:
                    acked_ns = deliveries.acked_ns
                    deliveries.acked_ns = ended_ns if acked_ns is None else min(ended_ns, acked_ns)
        for message, deliveries in found.items():
            yield Repeat(
                OneMessage(message),
                attempted=self.counted.attempted[message],
                delivered=self.delivered[message],
                ids=tuple(sorted(map(self.counted.history.ids.text, deliveries.codes))),
                nameless=deliveries.nameless,
                after_ack=deliveries.after_ack(),
            )

    def never_delivered(self) -> Iterator[tuple[int, Messages]]:
        acked = self.counted.acked
        for message in differing(acked, self.delivered) if self.counted.acks else ():
            if acked[message] and not self.delivered[message]:
                yield acked[message], OneMessage(message)

    def in_flight(self) -> Iterator[tuple[int, Messages]]:
        for owed, message in in_flight(self.counted, self.delivered, self.trimmed):
            yield owed, OneMessage(message)

    def missing(self) -> Iterator[Missing]:
        assert self.polling is not None
        return missing_entries(self.counted, self.polling, self.trimmed)

    def reordered(self) -> Iterator[Messages]:
        return map(OneMessage, reordered(self.counted, self.delivered, self.dequeues))

    def backwards(self) -> Iterator[Example]:
        assert self.polling is not None
        return backwards(self.counted, self.polling)


def _presence(named: Iterator[bool]) -> Knowledge:
    return Knowledge.RECORDED if any(named) else Knowledge.ABSENT


def _excuse(counted: CountedHistory) -> float:
    """How many messages the dequeues of unknown outcome may have taken, at most.

    Each as many as the largest dequeue known, or one; a drain takes any number.
    """
    if any(group.key.kind is Kind.DRAIN for group in counted.unknown_dequeues):
        return float("inf")
    widths = (group.key.width for group in counted.dequeues if group.key.kind is Kind.DEQUEUE)
    return max(widths, default=1) * sum(map(len, counted.unknown_dequeues))


def _messages(group: ColumnGroup) -> Iterator[tuple[Message, int, int, int | None]]:
    """Each message of each op: when the op was invoked and ended, and the id's code."""
    messages = map(Message, group.producers, group.sequences)
    invoked, ended = group.per_message(group.invoked_ns), group.per_message(group.ends_ns())
    return zip(messages, invoked, ended, group.codes(), strict=True)


def last_seen(history: History, messages: set[Message]) -> Mapping[Message, Op]:
    """For each of `messages` the op invoked last of those that mention it."""
    found: dict[Message, tuple[int, int, int]] = {}  # when invoked, which group, which op of it
    if messages:
        wanted = frozenset(messages)
        for place, group in enumerate(history.groups):
            width = group.key.width
            pairs = zip(group.producers, group.sequences, strict=True)
            invoked = group.per_message(group.invoked_ns)
            for index, (pair, invoked_ns) in enumerate(zip(pairs, invoked, strict=True)):
                if pair in wanted:
                    seen = (invoked_ns, place, index // width)
                    message = Message(*pair)
                    found[message] = max(seen, found.get(message, seen))
    places: defaultdict[int, set[int]] = defaultdict(set)
    for _, place, number in found.values():
        places[place].add(number)
    ops = {(place, number): op for place, numbers in places.items() for number, op in _ops(history, place, numbers)}
    return {message: ops[place, number] for message, (_, place, number) in found.items()}


def _ops(history: History, place: int, numbers: set[int]) -> list[tuple[int, Op]]:
    group = history.groups[place]
    return [(number, history.op(group.key, row)) for number, row in group.rows_at(numbers)]
