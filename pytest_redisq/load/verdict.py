"""What the books say, judged by a contract: a pure function, with the words and the laws of `check`.

The laws are those of `check.LAWS`, upon sets of keys: A attempted, E acknowledged, D received (by each reader, where
readers do not share), each with its count of repetitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from pyroaring import BitMap64

from pytest_redisq.check import AnomalyKind, Contract, Guarantee
from pytest_redisq.check.verdict import JudgedAs
from pytest_redisq.load.exits import EXIT_BROKEN, EXIT_PASS, EXIT_UNKNOWN
from pytest_redisq.load.ledger import Ledger, Received
from pytest_redisq.load.message import PRODUCERS_OF_A_PROCESS, SEQUENCE_BITS, message_of

#: So many ranges of each anomaly are kept.
KEPT_RANGES = 10


class Range(NamedTuple):
    """Messages of one producer, from the `first` sequence to the `last`, both included."""

    producer: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.producer}/{self.first}" + (f"-{self.last}" if self.last > self.first else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """How much was judged, in messages. Law: acknowledged = received + remaining + pending + missing, of one reader
    and without repetitions.
    """

    attempted: int = 0
    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    received: int = 0
    repeated: int = 0
    remaining: int = 0
    pending: int = 0
    missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadVerdict:
    """`pass`, `fail`, or `unknown`: never `pass` where it cannot be told. `ranges` has the first of each anomaly."""

    contract: Contract
    outcome: JudgedAs
    counts: Mapping[AnomalyKind, int]
    ranges: Mapping[AnomalyKind, tuple[Range, ...]] = field(default_factory=dict)
    totals: Totals = Totals()
    reasons: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return {"pass": EXIT_PASS, "fail": EXIT_BROKEN, "unknown": EXIT_UNKNOWN}[self.outcome]

    def as_json(self) -> dict[str, Any]:
        return {
            "contract": str(self.contract),
            "outcome": self.outcome,
            "counts": {str(kind): times for kind, times in self.counts.items() if times},
            "ranges": {str(kind): list(map(str, ranges)) for kind, ranges in self.ranges.items()},
            "totals": asdict(self.totals),
            "reasons": list(self.reasons),
        }

    def lines(self) -> Iterator[str]:
        """The verdict as a person reads it."""
        totals = self.totals
        yield f"{self.contract}: {self.outcome.upper()}"
        yield (
            f"{totals.attempted:,} attempted = {totals.acknowledged:,} acknowledged + {totals.failed:,} failed"
            f" + {totals.unknown:,} of unknown outcome; {totals.received:,} received and {totals.repeated:,} again,"
            f" {totals.remaining:,} left in the queue, {totals.pending:,} pending"
        )
        for kind, times in self.counts.items():
            if times:
                mark = "✗" if self.contract.forbids(kind) else "·"
                where = ", ".join(map(str, self.ranges.get(kind, ())))
                yield f"{mark} {times:,} {kind}{': ' if where else ''}{where}"
        for reason in self.reasons:
            yield f"? {reason}"


def judge(
    ledger: Ledger, contract: Contract, *, unsettled: Sequence[str] = (), absent: Mapping[int, str] | None = None
) -> LoadVerdict:
    """Judge the merged books.

    `unsettled` says why what is missing might yet arrive. `absent` names the processes, by number, whose books never
    came: what they sent or received is not known, and so nothing is called lost, unexpected or stuck that may be
    theirs.
    """
    findings = _Findings()
    reasons = [*unsettled, *(f"the books of {name} never came" for name in (absent or {}).values())]
    tried, acknowledged = ledger.tried(), ledger.acknowledged()
    readers = ledger.readers or {"": Received()}
    missing = 0
    for received in readers.values():
        _judge_surplus(ledger, tried, received, absent or {}, findings)
        gap = acknowledged - received.once - ledger.pending
        if contract.guarantee is not Guarantee.FAN_OUT:
            gap -= ledger.remaining
        missing += len(gap)
        if not reasons:
            excused = _first(gap, ledger.unknown_takes)
            findings.add(AnomalyKind.INDETERMINATE, excused)
            # Which were thrown away the server cannot tell, only how many.
            thrown = _first(gap - excused, ledger.trimmed)
            findings.add(AnomalyKind.TRIMMED, thrown)
            findings.add(AnomalyKind.LOST, gap - excused - thrown)
        if contract.fifo:
            findings.add(AnomalyKind.REORDERED, received.reordered)
    if reasons and ledger.pending:
        why = "perhaps with those whose books never came" if absent else "and might yet be acknowledged"
        reasons.append(f"{len(ledger.pending):,} messages are pending, {why}")
    else:
        findings.add(AnomalyKind.STUCK, ledger.pending)
    findings.count(AnomalyKind.CORRUPTED, ledger.corrupted)
    if contract.guarantee is not Guarantee.FAN_OUT and ledger.remaining:
        reasons.append(f"{len(ledger.remaining):,} messages could still be had from the queue")
    elif reasons and missing:
        reasons.append(
            f"so it cannot be told what became of {missing:,} acknowledged messages that nobody has received"
        )
    if not acknowledged and not any(received.once for received in readers.values()):
        reasons.append("no message was acknowledged and none was received, so nothing was tried")
    broken = any(times and contract.forbids(kind) for kind, times in findings.counts.items())
    return LoadVerdict(
        contract=contract,
        outcome="fail" if broken else "unknown" if reasons else "pass",
        counts=findings.counts,
        ranges=findings.ranges,
        totals=_totals(ledger, tried, acknowledged, missing),
        reasons=tuple(reasons),
    )


class _Findings:
    def __init__(self) -> None:
        self.counts: dict[AnomalyKind, int] = dict.fromkeys(AnomalyKind, 0)
        self.ranges: dict[AnomalyKind, tuple[Range, ...]] = {}

    def add(self, kind: AnomalyKind, keys: BitMap64, times: int | None = None) -> None:
        if keys:
            self.count(kind, len(keys) if times is None else times)
            known = self.ranges.get(kind, ())
            self.ranges[kind] = known + tuple(islice(ranges(keys), KEPT_RANGES - len(known)))

    def count(self, kind: AnomalyKind, times: int) -> None:
        self.counts[kind] += times


def _judge_surplus(
    ledger: Ledger, tried: BitMap64, received: Received, absent: Mapping[int, str], findings: _Findings
) -> None:
    """Whatever was received that its enqueues do not account for."""
    strange = received.once - tried
    for worker in absent:
        first = worker * PRODUCERS_OF_A_PROCESS << SEQUENCE_BITS
        strange.remove_range(first, first + (PRODUCERS_OF_A_PROCESS << SEQUENCE_BITS))
    findings.add(AnomalyKind.UNEXPECTED, strange)
    again = {key: times for key, times in received.repeated.items() if key in tried}
    findings.add(AnomalyKind.DUPLICATED, BitMap64(again), sum(again.values()))
    # These books keep no ids of the queue's own, so that none gives a repetition away.
    findings.add(AnomalyKind.CLONED, BitMap64(again), sum(again.values()))
    findings.add(AnomalyKind.FALSE_FAIL, received.once & ledger.failed)
    findings.add(AnomalyKind.RECOVERED, received.once & ledger.unknown)


def _first(keys: BitMap64, number: int) -> BitMap64:
    return keys.copy() if len(keys) <= number else BitMap64(islice(keys, number))


def _totals(ledger: Ledger, tried: BitMap64, acknowledged: BitMap64, missing: int) -> Totals:
    received = ledger.readers.values()
    return Totals(
        attempted=len(tried),
        acknowledged=len(acknowledged),
        failed=len(ledger.failed),
        unknown=len(ledger.unknown),
        received=sum(len(each.once) for each in received),
        repeated=sum(sum(each.repeated.values()) for each in received),
        remaining=len(ledger.remaining),
        pending=len(ledger.pending),
        missing=missing,
    )


def ranges(keys: BitMap64) -> Iterator[Range]:
    """The unbroken runs of each producer's sequences, ascending."""
    start = previous = -1
    for key in keys:
        if previous < 0 or key != previous + 1 or key >> SEQUENCE_BITS != previous >> SEQUENCE_BITS:
            if previous >= 0:
                yield _range(start, previous)
            start = key
        previous = key
    if previous >= 0:
        yield _range(start, previous)


def _range(start: int, stop: int) -> Range:
    first, last = message_of(start), message_of(stop)
    return Range(first.producer, first.sequence, last.sequence)
