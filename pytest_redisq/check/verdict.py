"""What the judge says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pytest_redisq.check.contract import AnomalyKind, Contract
from pytest_redisq.model import Message, Op

JudgedAs = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One message that shows one anomaly, `times` over.

    `ids` are the queue's names for it as far as they bear on the anomaly, `reader` the consumer concerned where only
    one is (fan-out). `last_seen` is the op invoked last of those that mention the message; None where none does.
    """

    kind: AnomalyKind
    message: Message
    times: int = 1
    ids: tuple[str, ...] = ()
    reader: str = ""
    last_seen: Op | None = None
    words: str = ""

    @property
    def producer(self) -> int:
        return self.message.producer


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """How much was judged, in messages; `unknown_dequeues` in ops."""

    attempted: int = 0
    acknowledged: int = 0
    delivered: int = 0
    acked: int = 0
    unknown_dequeues: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`pass`, `fail`, or `unknown`: never `pass` where it cannot be told.

    `counts` has every kind of anomaly with the number of times it was found; `anomalies` the first of each kind, also
    those that `contract` allows. `reasons` say why the verdict is, or but for a violation would be, `unknown`.
    """

    contract: Contract
    outcome: JudgedAs
    counts: Mapping[AnomalyKind, int]
    totals: Totals = Totals()
    anomalies: tuple[Anomaly, ...] = ()
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
