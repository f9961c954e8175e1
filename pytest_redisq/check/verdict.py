"""What the judge says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pytest_redisq.check.contract import AnomalyKind, Contract
from pytest_redisq.check.evidence import ErrorCount
from pytest_redisq.history import FaultRecord
from pytest_redisq.model import Message, Op
from pytest_redisq.terminal import escaped

JudgedAs = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """A message that shows an anomaly, or a run of `messages` consecutive ones of a producer, from `message` on.

    `times`: how often, over all of them. `ids` are the queue's names for it as far as they bear on the anomaly,
    `reader` the consumer concerned where only one is (fan-out). `last_seen` is the op invoked last of those that
    mention `message`; None where there is none, or where ops were not recorded. `place`: where a search of the
    server's keys found `message`, in words; empty if it was not searched for. `fate`: "dead-lettered" or "given up" if
    its work failed and the record shows what the queue then did with it; else empty.
    """

    kind: AnomalyKind
    message: Message
    messages: int = 1
    times: int = 1
    ids: tuple[str, ...] = ()
    reader: str = ""
    last_seen: Op | None = None
    words: str = ""
    place: str = ""
    fate: str = ""

    @property
    def producer(self) -> int:
        return self.message.producer

    @property
    def where(self) -> str:
        """The message as text, `"3/40"`; a run as `"3/40-42"`."""
        last = self.message.sequence + self.messages - 1
        return str(self.message) + (f"-{last}" if self.messages > 1 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """How much was judged, in messages; `unknown_dequeues` in ops.

    Of those attempted, the queue acknowledged some, some `failed` for certain, and of some the outcome is `unknown`.
    `delivered` counts deliveries; `repeated`, those that were not the first of a message (to a reader, under fan-out).
    `remaining` and `pending` were inside at the end. `missing`: acknowledged, and neither delivered nor inside.
    """

    attempted: int = 0
    acknowledged: int = 0
    failed: int = 0
    unknown: int = 0
    delivered: int = 0
    repeated: int = 0
    acked: int = 0
    unknown_dequeues: int = 0
    remaining: int = 0
    pending: int = 0
    missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`pass`, `fail`, or `unknown`: never `pass` where it cannot be told.

    `counts` has every kind of anomaly with the number of times it was found; `anomalies` the first of each kind, also
    those that `contract` allows. `reasons` say why the verdict is, or but for a violation would be, `unknown`.
    `not_judged`: the laws for which the record of the run was not sufficient, each with what is missing. `faults`: what
    became of the faults of the run. `errors`: the errors that operations ended with.

    As text it is one line: what a pass rests on, what is broken, or why it cannot be told.
    """

    contract: Contract
    outcome: JudgedAs
    counts: Mapping[AnomalyKind, int]
    totals: Totals = Totals()
    anomalies: tuple[Anomaly, ...] = ()
    reasons: tuple[str, ...] = ()
    not_judged: Mapping[AnomalyKind, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    faults: tuple[FaultRecord, ...] = ()
    errors: tuple[ErrorCount, ...] = ()

    @property
    def broken(self) -> tuple[AnomalyKind, ...]:
        """The kinds of anomaly that were found and that break the contract."""
        return tuple(kind for kind, times in self.counts.items() if times and self.contract.forbids(kind))

    def __str__(self) -> str:
        # Reasons and faults are as a history has them, which may come from anywhere.
        return escaped(self._line())

    def _line(self) -> str:
        match self.outcome:
            case "pass":
                return f"{self.contract} holds: {self._basis()}"
            case "unknown":
                return f"{self.contract} unknown: {self.reasons[0] if self.reasons else 'it was not judged'}"
            case "fail":
                return f"{self.contract} broken: {', '.join(map(self._counted, self.broken))}"

    def _counted(self, kind: AnomalyKind) -> str:
        """How often an anomaly was found; where its messages lie, if they all lie in one place; and their one fate."""
        anomalies = [anomaly for anomaly in self.anomalies if anomaly.kind is kind]
        places, fates = {anomaly.place for anomaly in anomalies} - {""}, {anomaly.fate for anomaly in anomalies}
        where = f" ({places.pop()})" if len(places) == 1 else ""
        fate = f", {fates.pop()}" if len(fates) == 1 and fates != {""} else ""
        return f"{self.counts[kind]} {kind}{fate}{where}"

    def _basis(self) -> str:
        """What a pass rests on: messages, faults that struck, and what was not judged."""
        totals = self.totals
        again = f", {totals.repeated:,} of them again" if totals.repeated else ""
        struck = [f"{fault.fault} ({fault.words})" for fault in self.faults if fault.struck]
        parts = [
            f"{totals.acknowledged:,} messages acknowledged, {totals.delivered:,} delivered{again}",
            ", ".join(struck) or "no faults",
            *([f"not judged: {', '.join(self.not_judged)}"] if self.not_judged else []),
        ]
        return "; ".join(parts)
