"""How the consumers of a history came back after its faults: when each took a message again, and what it did before.

A consumer can only take what is there, and a queue need not share out evenly. So two times are measured, both while the
consumer asks: how long it waited for its next message, and how long messages lay there that no consumer took. Only the
second proves that it is deaf. A short pause between two dequeues counts as asking: a worker that backs off after an
error still asks. A worker that handles a message, or holds back, does not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from pytest_redisq.check.counted import CountedHistory
from pytest_redisq.check.evidence import Recovery
from pytest_redisq.history import FaultRecord
from pytest_redisq.history.columns import OpKey, Row
from pytest_redisq.model import Kind, Op, Outcome

#: The longest time between two dequeues of a consumer that still asks.
_PAUSE_NS = 500_000_000
_NEVER = 2**63 - 1

_Interval = tuple[int, int]


def recoveries(counted: CountedHistory, *, fan_out: bool) -> Iterator[Recovery]:
    """For each fault, each consumer that outlived it and asked again, until the next fault struck.

    `fan_out`: each reader is owed every message; otherwise a message is taken once.
    """
    faults = _strikes(counted.history.faults)
    if not faults:
        return
    deliveries = _Traffic(counted, faults[0].at_ns)
    for place, fault in enumerate(faults):
        healed_ns = fault.healed_ns
        end_ns = min((each.at_ns for each in faults[place + 1 :]), default=_NEVER)
        if end_ns <= healed_ns:
            continue
        gone = {name for each in faults[: place + 1] for name in each.killed}
        for name in sorted(deliveries.consumers.keys() - gone):
            consumer = deliveries.consumers[name]
            if consumer.first_ns < healed_ns and consumer.asking_in(healed_ns, end_ns):
                yield _recovery(deliveries, consumer, fault, healed_ns, end_ns, fan_out=fan_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Strike:
    """A fault from its first to its last record: from `healed_ns` on the queue can be used again."""

    at_ns: int
    healed_ns: int
    words: str
    killed: frozenset[str]


def _strikes(records: Sequence[FaultRecord]) -> list[_Strike]:
    """The faults that struck something, in the order of time. The records of one fault have the same spelling."""
    by_fault: defaultdict[str, list[FaultRecord]] = defaultdict(list)
    for record in records:
        if record.struck and record.at_ns is not None:
            by_fault[record.fault].append(record)
    strikes = []
    for spelling, mine in by_fault.items():
        times = [record.at_ns for record in mine if record.at_ns is not None]
        killed = frozenset(name for record in mine for name in record.killed)
        strikes.append(_Strike(at_ns=min(times), healed_ns=max(times), words=spelling, killed=killed))
    return sorted(strikes, key=lambda strike: strike.at_ns)


@dataclass(frozen=True, kw_only=True)
class _Consumer:
    """The dequeues of one consumer since the first fault struck, by time of invocation.

    `first_ns`: when its first dequeue of all was invoked. `horizon_ns`: when one that never ended counts as ended.
    """

    name: str
    first_ns: int
    rows: Sequence[tuple[Row, OpKey]]
    horizon_ns: int

    @cached_property
    def asking(self) -> Sequence[_Interval]:
        spans = []
        following = [row.invoked_ns for row, _ in self.rows[1:]] + [_NEVER]
        for (row, _), next_ns in zip(self.rows, following, strict=True):
            ended_ns = self.horizon_ns if row.ended_ns is None else row.ended_ns
            spans.append((row.invoked_ns, next_ns if next_ns - ended_ns <= _PAUSE_NS else ended_ns))
        return spans

    def asking_in(self, start_ns: int, end_ns: int) -> int:
        """How long it asked between two times."""
        first = max(0, bisect_right(self.asking, (start_ns, _NEVER)) - 1)
        last = bisect_left(self.asking, (end_ns, -1))
        return sum(max(0, min(stop, end_ns) - max(start, start_ns)) for start, stop in self.asking[first:last])

    def taken_ns(self, struck_ns: int, healed_ns: int, end_ns: int) -> int | None:
        """When its first dequeue that was invoked after the strike, and brought something, ended."""
        ends = (
            row.ended_ns
            for row, key in self.rows
            if row.invoked_ns >= struck_ns and row.ended_ns is not None and key.outcome is Outcome.OK and row.messages
        )
        return next((ended_ns for ended_ns in ends if healed_ns <= ended_ns < end_ns), None)

    def since(self, healed_ns: int, end_ns: int) -> list[tuple[Row, OpKey]]:
        """The dequeues that it invoked, or had open, between two times."""
        rows = [(row, key) for row, key in self.rows if row.invoked_ns < end_ns]
        return [(row, key) for row, key in rows if row.ended_ns is None or row.ended_ns >= healed_ns]


class _Traffic:
    """What matters here of a history, since `since_ns`: who asked, when messages were enqueued, and when delivered."""

    def __init__(self, counted: CountedHistory, since_ns: int) -> None:
        self.history = counted.history
        rows: defaultdict[str, list[tuple[Row, OpKey]]] = defaultdict(list)
        first: dict[str, int] = {}
        for group in counted.history.groups:
            key = group.key
            if key.kind is Kind.DEQUEUE and len(group):
                all_rows = list(group.rows())
                first[key.actor] = min(first.get(key.actor, _NEVER), all_rows[0].invoked_ns)
                late = (row for row in all_rows if row.ended_ns is None or row.ended_ns >= since_ns)
                rows[key.actor] += ((row, key) for row in late)
        #: When each acknowledged enqueue was invoked, and when it ended; by its invocation.
        self.offers: list[_Interval] = sorted(
            span
            for group in counted.enqueues
            for span in zip(group.invoked_ns, group.ends_ns(), strict=True)
            if span[0] >= since_ns
        )
        #: When each dequeue or drain that brought something ended, of all consumers.
        self.takes: list[int] = sorted(end for group in counted.dequeues for end in group.ends_ns() if end >= since_ns)
        quiescence = counted.history.quiescence
        ends = (row.ended_ns or row.invoked_ns for each in rows.values() for row, _ in each)
        horizon_ns = quiescence.at_ns if quiescence else max(ends, default=since_ns)
        self.consumers: dict[str, _Consumer] = {
            name: _Consumer(name=name, first_ns=first[name], rows=sorted(mine, key=_invocation), horizon_ns=horizon_ns)
            for name, mine in rows.items()
        }

    def unknown(self, start_ns: int, end_ns: int, *, but: str) -> int:
        """How many dequeues of other consumers, of unknown outcome, overlap a span: each may have taken a message."""
        return sum(
            key.outcome is Outcome.INFO and row.invoked_ns <= end_ns and (row.ended_ns or _NEVER) >= start_ns
            for name, consumer in self.consumers.items()
            for row, key in consumer.rows
            if name != but
        )


def _recovery(
    deliveries: _Traffic, consumer: _Consumer, fault: _Strike, healed_ns: int, end_ns: int, *, fan_out: bool
) -> Recovery:
    taken_ns = consumer.taken_ns(fault.at_ns, healed_ns, end_ns)
    until_ns = end_ns if taken_ns is None else taken_ns
    first_take = next(iter(deliveries.takes[bisect_left(deliveries.takes, healed_ns) :]), _NEVER)
    first_offer = min((ended for invoked, ended in deliveries.offers if ended >= healed_ns), default=_NEVER)
    there_ns = min(first_take, first_offer, until_ns)
    since = consumer.since(healed_ns, until_ns)
    return Recovery(
        consumer=consumer.name,
        fault=fault.words,
        took=taken_ns is not None,
        superseded=end_ns < _NEVER,
        waited_seconds=consumer.asking_in(there_ns, until_ns) / 1e9,
        ignored_seconds=_ignored_ns(deliveries, consumer, healed_ns, until_ns, fan_out=fan_out) / 1e9,
        did=_did(since),
        last=_last(deliveries, since),
    )


def _ignored_ns(deliveries: _Traffic, consumer: _Consumer, start_ns: int, end_ns: int, *, fan_out: bool) -> int:
    """The longest time that it asked while messages lay there and no consumer took any.

    Between two takes only messages count that were enqueued since the first of them: a dead consumer may hold others.
    """
    first, last = (bisect_left(deliveries.takes, at_ns) for at_ns in (start_ns, end_ns))
    takes = [] if fan_out else deliveries.takes[first:last]
    longest = 0
    for start, stop in sorted(pairwise([start_ns, *takes, end_ns]), key=lambda span: span[0] - span[1]):
        if stop - start <= longest:
            break
        offers = deliveries.offers[bisect_left(deliveries.offers, (start, -1)) :]
        offered = sorted(ended for invoked, ended in offers if ended <= stop)
        perhaps_taken = 0 if fan_out else deliveries.unknown(start, stop, but=consumer.name)
        if len(offered) > perhaps_taken:
            longest = max(longest, consumer.asking_in(offered[perhaps_taken], stop))
    return longest


def _did(rows: Sequence[tuple[Row, OpKey]]) -> str:
    """What it did meanwhile, in words."""
    errors = [key.error for _, key in rows if key.outcome is not Outcome.OK]
    hangs = any(row.ended_ns is None for row, _ in rows)
    words = [f"asked {len(rows)} times" if len(rows) > 1 else "asked once"]
    if errors and not (hangs and len(errors) == 1):
        words.append(f"{len(errors) - hangs} of them ended with an error, the last with {errors[-1 - hangs]!r}")
    if hangs:
        words.append("its last call never came back")
    return ", and ".join(words)


def _last(deliveries: _Traffic, rows: Sequence[tuple[Row, OpKey]]) -> Op | None:
    return deliveries.history.op(rows[-1][1], rows[-1][0]) if rows else None


def _invocation(placed: tuple[Row, OpKey]) -> int:
    return placed[0].invoked_ns
