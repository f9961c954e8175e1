"""A slow second opinion, written straight from the laws of `contract.LAWS`, over `Op` objects and `Counter`s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pytest_redisq.check import AnomalyKind
from pytest_redisq.history import Quiescence
from pytest_redisq.model import Kind, Message, Op, Outcome


def count(ops: Sequence[Op], kind: Kind, *outcomes: Outcome) -> Counter[Message]:
    return Counter(m for op in ops if op.kind is kind and op.outcome in outcomes for m in op.messages)


def shared(ops: Sequence[Op], end: Quiescence) -> Mapping[AnomalyKind, int]:
    """The anomalies in the history of a work-sharing queue, except those of ids and order. `end` must be quiescent."""
    attempted = count(ops, Kind.ENQUEUE, *Outcome)
    acknowledged = count(ops, Kind.ENQUEUE, Outcome.OK)
    possible = count(ops, Kind.ENQUEUE, Outcome.OK, Outcome.INFO)
    delivered = count(ops, Kind.DEQUEUE, Outcome.OK)
    acked = count(ops, Kind.ACK, Outcome.OK)
    pending = Counter(end.pending)

    surplus = delivered - attempted
    unexpected = Counter({m: n for m, n in surplus.items() if not attempted[m]})
    missing = acknowledged - delivered - pending
    unknown = sum(op.kind is Kind.DEQUEUE and op.outcome is Outcome.INFO for op in ops)
    widest = max((len(op.messages) for op in ops if op.kind is Kind.DEQUEUE and op.outcome is Outcome.OK), default=1)
    excuse = unknown * max(widest, 1)
    held = in_last_hands(ops)
    forgotten = Counter(
        {
            m: min(n, delivered[m], acknowledged[m])
            for m, n in held.items()
            if n >= delivered[m] and not pending[m] and not acked[m]
        }
    )
    excused = min(missing.total(), excuse)
    doubtful = min(forgotten.total(), excuse - excused)
    false_acks = {m: n for m, n in pending.items() if acked[m] and acked[m] >= delivered[m]}
    return {
        AnomalyKind.LOST: max(missing.total() - excuse, 0),
        AnomalyKind.INDETERMINATE: excused + doubtful,
        AnomalyKind.FORGOTTEN: forgotten.total() - doubtful,
        AnomalyKind.STUCK: (pending - Counter(false_acks)).total(),
        AnomalyKind.UNEXPECTED: unexpected.total(),
        AnomalyKind.DUPLICATED: (surplus - unexpected).total(),
        AnomalyKind.FALSE_FAIL: ((delivered & attempted) - possible).total(),
        AnomalyKind.RECOVERED: ((delivered & possible) - acknowledged).total(),
        AnomalyKind.PREMATURE_ACK: sum(n for m, n in acked.items() if not delivered[m]),
    }


def in_last_hands(ops: Sequence[Op]) -> Counter[Message]:
    """The messages that consumers did not finish: those that they took last and never tried to acknowledge, where
    consumers acknowledge at all, and each message of which the work or the ack failed.
    """
    acks = [op for op in ops if op.kind is Kind.ACK]
    tried = {m for op in acks if op.outcome is Outcome.INFO for m in op.messages}
    failures = [op for op in ops if op.kind in (Kind.ACK, Kind.WORK) and op.outcome is Outcome.FAIL]
    held = Counter(m for op in failures for m in op.messages if m not in tried)
    for actor in {op.actor for op in ops if op.kind is Kind.DEQUEUE} if acks else ():
        mine = [op for op in ops if op.actor == actor and op.kind is Kind.DEQUEUE]
        last = max(op.invoked_ns for op in mine)
        latest = [op for op in mine if op.invoked_ns == last]
        if len(latest) == 1 and latest[0].outcome is Outcome.OK:
            failed = {m for op in failures if op.actor == actor and op.invoked_ns >= last for m in op.messages}
            held.update(m for m in latest[0].messages if m not in tried | failed)
    return held


def reordered(ops: Sequence[Op]) -> set[Message]:
    """Every message that some later one of its producer overtook: all pairs, straight from the law."""
    sent = [op for op in ops if op.kind is Kind.ENQUEUE and op.outcome is not Outcome.FAIL]
    took = [op for op in ops if op.kind is Kind.DEQUEUE and op.outcome is Outcome.OK]
    messages = {m for op in sent for m in op.messages}
    later = {a: {b for b in messages if a.producer == b.producer and _enqueued_before(sent, a, b)} for a in messages}
    deliveries = {a: [(op, at) for op in took for at, m in enumerate(op.messages) if m == a] for a in messages}
    return {a for a in messages if deliveries[a] and all(_late(took, op, at, later[a]) for op, at in deliveries[a])}


def _enqueued_before(sent: Sequence[Op], a: Message, b: Message) -> bool:
    ends = [op.ended_ns for op in sent if a in op.messages and op.outcome is Outcome.OK]
    starts = [op.invoked_ns for op in sent if b in op.messages]
    return bool(ends) and max(end for end in ends if end is not None) < min(starts)


def _late(took: Sequence[Op], delivery: Op, at: int, later: set[Message]) -> bool:
    """Whether one of `later` was delivered before the message at place `at` of `delivery`."""
    before = {m for op in took if op.ended_ns is not None and op.ended_ns < delivery.invoked_ns for m in op.messages}
    return not later.isdisjoint(before | set(delivery.messages[:at]))
