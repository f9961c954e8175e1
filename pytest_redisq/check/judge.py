"""The judge: a pure function from the record of a run and a contract to a verdict."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from pytest_redisq.check.column_evidence import ColumnEvidence
from pytest_redisq.check.contract import AnomalyKind, Contract, Guarantee
from pytest_redisq.check.delivery import judge_delivery
from pytest_redisq.check.evidence import Evidence, Knowledge, Share
from pytest_redisq.check.fan_out import judge_reader
from pytest_redisq.check.findings import Findings
from pytest_redisq.check.liveness import judge_liveness
from pytest_redisq.check.verdict import Totals, Verdict
from pytest_redisq.history import History

#: Of each kind so many anomalies are kept in full; the counts are exact whatever their number.
KEPT_PER_KIND = 100


def check(record: History | Evidence, contract: Contract, *, keep: int = KEPT_PER_KIND) -> Verdict:
    """Judge a run by `contract`; `keep` bounds the anomalies shown of each kind, not those counted.

    `record`: a history, or what else has recorded the run (see `Evidence`).

    `fail`: the contract is broken, whatever may come. `unknown`: it is not, so far, but the run does not end in
    quiescence (so that what is missing may yet arrive), there is nothing to judge, the record is not sufficient for a
    law that the contract needs, or the checker itself crashed. Raises TypeError for what is no contract.
    """
    if not isinstance(contract, Contract):
        raise TypeError(f'{contract!r} is no contract: give its name, as "at-least-once, fifo", or a Contract')
    try:
        return _check(
            ColumnEvidence(record, bounded=contract.bounded) if isinstance(record, History) else record, contract, keep
        )
    except Exception as error:
        last = traceback.format_exception_only(error)[-1].strip()
        return Verdict(
            contract=contract,
            outcome="unknown",
            counts=dict.fromkeys(AnomalyKind, 0),
            reasons=(f"the checker itself crashed: {last}. Please report it, with the history",),
        )


def _check(evidence: Evidence, contract: Contract, keep: int) -> Verdict:
    findings = Findings(keep)
    fan_out = contract.guarantee is Guarantee.FAN_OUT
    unsettled = list(evidence.unsettled())
    judge = judge_reader if fan_out else judge_delivery
    shares = evidence.shares(fan_out=fan_out)
    missing = sum(judge(share, findings, quiescent=not unsettled) for share in shares)
    if contract.fifo:
        for share in shares:
            _judge_order(share, findings)
    if contract.live_seconds is not None:
        judge_liveness(evidence, findings, live_seconds=contract.live_seconds, fan_out=fan_out)
    for example in evidence.unreadable():
        findings.show(AnomalyKind.CORRUPTED, example)
    _judge_ids(evidence, shares, findings)
    counts, not_judged = findings.counts(), findings.not_judged()
    totals = Totals(**evidence.totals(), missing=missing, repeated=sum(share.repeated for share in shares))
    reasons = unsettled + _left(evidence, contract)
    if not shares:
        reasons += ["no reader took part, so nothing was delivered"]
    if unsettled and missing:
        reasons += [f"so it cannot be told what became of {missing} acknowledged messages that were not delivered"]
    if contract.bounded and evidence.trim_doubt:
        reasons.append(evidence.trim_doubt)
    reasons += _nothing_seen(totals, contract, known_why=bool(reasons))
    reasons += [fault.void for fault in evidence.faults if fault.void]
    reasons += [f"{kind} could not be judged: {why}" for kind, why in not_judged.items() if contract.needs(kind)]
    broken = any(times and contract.forbids(kind) for kind, times in counts.items())
    return Verdict(
        contract=contract,
        outcome="fail" if broken else "unknown" if reasons else "pass",
        counts=counts,
        totals=totals,
        anomalies=findings.anomalies(evidence),
        reasons=tuple(reasons),
        not_judged=not_judged,
        notes=evidence.notes,
        faults=tuple(evidence.faults),
        errors=tuple(evidence.errors()),
    )


def _nothing_seen(totals: Totals, contract: Contract, *, known_why: bool) -> list[str]:
    """What a pass would rest on and was not seen: messages that had to arrive, and messages that came.

    `known_why`: other reasons say already why nothing was delivered.
    """
    if not totals.acknowledged and not totals.delivered:
        return ["no message was acknowledged and none was delivered, so nothing was tried"]
    if not totals.delivered and not known_why:
        return ["no message was delivered, so nothing was tried"]
    if not totals.acknowledged and contract.forbids(AnomalyKind.LOST):
        return ["no message was acknowledged by the queue, so none had to arrive"]
    return []


def _left(evidence: Evidence, contract: Contract) -> list[str]:
    """What keeps a run from a pass although nothing is known to be wrong: not all was taken out of the queue.

    What is left is known by name, so that a message that is neither left nor delivered is lost all the same.
    """
    number = evidence.remaining()
    if not number or contract.guarantee is Guarantee.FAN_OUT:
        return []
    where = "; ".join(f"{len(place.messages)} in {place}" for place in evidence.places)
    return [f"{number} messages could still be had from the queue{f': {where}' if where else ''}"]


def _judge_order(share: Share, findings: Findings) -> None:
    if share.order is Knowledge.UNRECORDED:
        findings.leave_out(AnomalyKind.REORDERED, "no record was kept of the order in which messages came")
    for messages in share.reordered():
        words = "delivered only after a later message of its producer had been"
        findings.add(AnomalyKind.REORDERED, messages, words, reader=share.reader)


def _judge_ids(evidence: Evidence, shares: Sequence[Share], findings: Findings) -> None:
    """wrong-id: a delivery under an id that the queue had given to another message."""
    for example in evidence.wrong_ids():
        findings.show(AnomalyKind.WRONG_ID, example)
    named = any(share.ids is not Knowledge.ABSENT for share in shares)
    if named and evidence.enqueue_ids is Knowledge.UNRECORDED:
        findings.leave_out(AnomalyKind.WRONG_ID, "no record was kept of the ids that the queue gave to producers")
