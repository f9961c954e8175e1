"""The judge: a pure function from a history and a contract to a verdict, linear in the number of ops."""

from __future__ import annotations

import traceback

from pytest_redisq.check.bodies import judge_bodies
from pytest_redisq.check.contract import AnomalyKind, Contract, Guarantee
from pytest_redisq.check.delivery import judge_delivery
from pytest_redisq.check.findings import Findings
from pytest_redisq.check.ledger import Ledger
from pytest_redisq.check.multiset import Multiset
from pytest_redisq.check.order import judge_order
from pytest_redisq.check.readers import judge_readers
from pytest_redisq.check.verdict import Totals, Verdict
from pytest_redisq.history import History

#: Of each kind so many anomalies are kept in full; the counts are exact whatever their number.
KEPT_PER_KIND = 100


def check(history: History, contract: Contract, *, keep: int = KEPT_PER_KIND) -> Verdict:
    """Judge `history` by `contract`; `keep` bounds the anomalies shown of each kind, not those counted.

    `fail`: the contract is broken, whatever may come. `unknown`: it is not, so far, but the history does not end in
    quiescence (so that what is missing may yet arrive), holds nothing to judge, or made the checker itself crash.
    Raises TypeError for what is no contract.
    """
    if not isinstance(contract, Contract):
        raise TypeError(f'{contract!r} is no contract: give its name, as "at-least-once, fifo", or a Contract')
    try:
        return _check(history, contract, keep)
    except Exception as error:
        last = traceback.format_exception_only(error)[-1].strip()
        return Verdict(
            contract=contract,
            outcome="unknown",
            counts=dict.fromkeys(AnomalyKind, 0),
            reasons=(f"the checker itself crashed: {last}. Please report it, with the history",),
        )


def _check(history: History, contract: Contract, keep: int) -> Verdict:
    ledger = Ledger.of(history)
    findings = Findings(keep)
    unsettled = _unsettled(ledger, contract)
    if contract.guarantee is Guarantee.FAN_OUT:
        delivered_total = sum(len(group.producers) for group in ledger.dequeues)
        missing = judge_readers(ledger, contract, findings, quiescent=not unsettled)
    else:
        delivered = Multiset(ledger.sizes, ledger.dequeues)
        delivered_total = delivered.total
        missing = judge_delivery(ledger, delivered, findings, quiescent=not unsettled)
        if contract.fifo:
            judge_order(ledger, delivered, ledger.dequeues, findings)
    judge_bodies(ledger, findings)
    counts = findings.counts()
    broken = any(times and contract.forbids(kind) for kind, times in counts.items())
    reasons = tuple(unsettled)
    if unsettled and missing:
        reasons += (f"so it cannot be told what became of {missing} acknowledged messages that were not delivered",)
    if not ledger.attempted.total and not delivered_total:
        reasons += ("no message was sent and none was delivered, so nothing was tried",)
    return Verdict(
        contract=contract,
        outcome="fail" if broken else "unknown" if reasons else "pass",
        counts=counts,
        totals=_totals(ledger, delivered_total),
        anomalies=findings.anomalies(history),
        reasons=reasons,
        notes=history.notes + (history.quiescence.notes if history.quiescence else ()),
    )


def _totals(ledger: Ledger, delivered: int) -> Totals:
    return Totals(
        attempted=ledger.attempted.total,
        acknowledged=ledger.acknowledged.total,
        delivered=delivered,
        acked=ledger.acked.total,
        unknown_dequeues=sum(map(len, ledger.unknown_dequeues)),
    )


def _unsettled(ledger: Ledger, contract: Contract) -> list[str]:
    """Why it cannot be said of any message that it will never arrive; empty where it can."""
    end = ledger.history.quiescence
    if end is None:
        return ["the history does not end in quiescence"]
    reasons = []
    if not end.producers_ended:
        reasons.append("the producers had not ended")
    if not end.faults_healed:
        reasons.append("a fault had not been healed")
    if not end.drained:
        reasons.append("the queue had not been drained")
    if ledger.remaining.total and contract.guarantee is not Guarantee.FAN_OUT:
        reasons.append(f"{ledger.remaining.total} messages could still be had from the queue")
    if any(group.invoked_ns.highest() > end.at_ns for group in ledger.history.groups):
        reasons.append("an op was invoked after quiescence had been declared")
    return reasons
