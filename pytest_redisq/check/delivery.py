"""The laws of queues whose consumers share the messages: what went in against what came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from pytest_redisq.check.contract import AnomalyKind
from pytest_redisq.check.findings import Findings
from pytest_redisq.check.in_flight import judge_in_flight
from pytest_redisq.check.ledger import Ledger
from pytest_redisq.check.multiset import Multiset, differing, repeated
from pytest_redisq.history.columns import ColumnGroup
from pytest_redisq.model import Kind, Message


def judge_delivery(ledger: Ledger, delivered: Multiset, findings: Findings, *, quiescent: bool) -> int:
    """Every law that compares the multisets. Returns how many acknowledged messages have not been delivered (yet)."""
    trimmed = ledger.trimmed()
    missing = 0
    excuse = _excuse(ledger)
    inside = chain(ledger.pending.sparse, ledger.remaining.sparse)
    uneven = differing(ledger.acknowledged, delivered, ledger.attempted, ledger.possible)
    for message in uneven:
        judge_surplus(ledger, delivered, message, findings)
        gap = ledger.acknowledged[message] - max(delivered[message], 0)
        if gap > 0:
            missing += gap
            if quiescent:
                excuse = _judge_gap(ledger, trimmed, message, gap, excuse, findings)
    for message in sorted(set(inside)):
        _judge_inside(ledger, delivered, message, findings, quiescent=quiescent)
    if quiescent:
        judge_in_flight(ledger, delivered, trimmed, excuse, findings)
    _judge_redeliveries(ledger, delivered, findings)
    _judge_acks(ledger, delivered, findings)
    return missing


def judge_surplus(
    ledger: Ledger, delivered: Multiset, message: Message, findings: Findings, *, reader: str = ""
) -> None:
    """Delivered more often than its enqueues account for."""
    took, tried = delivered[message], ledger.attempted[message]
    possible, sure = ledger.possible[message], ledger.acknowledged[message]
    if message.producer < 0:
        return  # judged as corrupted, op by op
    if took and not tried:
        # unexpected = in D, never attempted (not in A)
        findings.add(
            AnomalyKind.UNEXPECTED, message, "delivered, though no producer tried to send it", times=took, reader=reader
        )
    elif took > tried:
        # duplicated = D − A
        words = f"attempted {_times(tried)}, delivered {_times(took)}"
        findings.add(AnomalyKind.DUPLICATED, message, words, times=took - tried, reader=reader)
    if min(took, tried) > possible:
        # false-fail = (D ∩ A) − P
        words = "delivered, though its enqueue was told that it had certainly not happened"
        findings.add(AnomalyKind.FALSE_FAIL, message, words, times=min(took, tried) - possible, reader=reader)
    if min(took, possible) > sure:
        # recovered = (D ∩ P) − E
        words = "delivered; its enqueue had ended with nobody knowing whether it had happened"
        findings.add(AnomalyKind.RECOVERED, message, words, times=min(took, possible) - sure, reader=reader)


def _excuse(ledger: Ledger) -> float:
    """How many messages the dequeues of unknown outcome may have taken, at most.

    Each as many as the largest dequeue known, or one; a drain takes any number.
    """
    if any(group.key.kind is Kind.DRAIN for group in ledger.unknown_dequeues):
        return float("inf")
    widths = (group.key.width for group in ledger.dequeues if group.key.kind is Kind.DEQUEUE)
    return max(widths, default=1) * sum(map(len, ledger.unknown_dequeues))


def _judge_gap(
    ledger: Ledger, trimmed: Multiset, message: Message, gap: int, excuse: float, findings: Findings
) -> float:
    """`gap` acknowledged enqueues of `message` have no delivery; returns what is left of `excuse`."""
    gap -= min(gap, ledger.remaining[message] + ledger.pending[message])  # inside, not missing
    thrown = min(gap, trimmed[message])
    if thrown:
        words = "acknowledged, then thrown away undelivered by the queue's own bound"
        findings.add(AnomalyKind.TRIMMED, message, words, times=thrown)
    gap -= thrown
    excused = int(min(gap, excuse))
    if excused:
        # indeterminate: missing, and as many as the dequeues of unknown outcome can have taken
        words = f"acknowledged, never delivered; {_unknown(ledger)} may have taken it"
        findings.add(AnomalyKind.INDETERMINATE, message, words, times=excused)
    if gap > excused:
        # lost = E − D, less what is inside, trimmed or indeterminate
        words = "acknowledged, never delivered, and no longer in the queue"
        if ledger.unknown_dequeues:
            words += f"; more are missing than {_unknown(ledger)} can have taken"
        findings.add(AnomalyKind.LOST, message, words, times=gap - excused)
    return excuse - excused


def _judge_inside(
    ledger: Ledger, delivered: Multiset, message: Message, findings: Findings, *, quiescent: bool
) -> None:
    """`message` was still in the queue at the end: to be had (remaining) or with no way out (pending)."""
    pending, inside = ledger.pending[message], ledger.pending[message] + ledger.remaining[message]
    if ledger.acked[message] and ledger.acked[message] >= delivered[message]:
        # false-ack: K has every delivery of it, and yet it is inside
        findings.add(AnomalyKind.FALSE_ACK, message, "acknowledged, and still in the queue at the end", times=inside)
    elif pending and quiescent:
        # stuck = inside at quiescence with no way out
        words = "delivered, never acknowledged, and handed" if delivered[message] else "never delivered, and left"
        words += " to nobody again: it sits in the pending or processing list"
        findings.add(AnomalyKind.STUCK, message, words, times=pending)


@dataclass(slots=True)
class _Repeat:
    """The deliveries of a message that came more than once. `code` None: an id was missing, or there were several."""

    codes: set[int] = field(default_factory=set)
    nameless: bool = False
    last_invoked_ns: int = 0
    acked_ns: int | None = None


def _judge_redeliveries(ledger: Ledger, delivered: Multiset, findings: Findings) -> None:
    for message, repeat in repeats(ledger, delivered, ledger.dequeues).items():
        judge_clones(ledger, delivered, message, repeat, findings)
        # false-ack: an ok ack ended before a delivery under the same id was invoked
        acked = repeat.acked_ns is not None and repeat.acked_ns < repeat.last_invoked_ns
        if acked and not repeat.nameless and len(repeat.codes) == 1:
            ids = tuple(map(ledger.history.ids.text, repeat.codes))
            findings.add(AnomalyKind.FALSE_ACK, message, "delivered again after it had been acknowledged", ids=ids)


def repeats(ledger: Ledger, delivered: Multiset, dequeues: tuple[ColumnGroup, ...]) -> dict[Message, _Repeat]:
    """The messages delivered more than once by `dequeues`."""
    found = {message: _Repeat() for message in repeated(delivered) if message.producer >= 0}
    for group in dequeues if found else ():
        for message, invoked_ns, _, code in _deliveries(group):
            repeat = found.get(message)
            if repeat is not None:
                repeat.last_invoked_ns = max(repeat.last_invoked_ns, invoked_ns)
                if code is None:
                    repeat.nameless = True
                else:
                    repeat.codes.add(code)
    for group in ledger.acks if found else ():
        for message, _, ended_ns, _ in _deliveries(group):
            repeat = found.get(message)
            if repeat is not None:
                repeat.acked_ns = ended_ns if repeat.acked_ns is None else min(ended_ns, repeat.acked_ns)
    return found


def judge_clones(
    ledger: Ledger, delivered: Multiset, message: Message, repeat: _Repeat, findings: Findings, *, reader: str = ""
) -> None:
    """cloned: in D − A, and its deliveries' ids are more than A, or are missing."""
    tried = ledger.attempted[message]
    extra = delivered[message] - tried
    if not tried or extra <= 0:
        return
    if repeat.nameless:
        words = "delivered again with no id by which a consumer could tell"
        findings.add(AnomalyKind.CLONED, message, words, times=extra, reader=reader)
    elif len(repeat.codes) > tried:
        ids = tuple(sorted(map(ledger.history.ids.text, repeat.codes)))
        words = "in the queue more often than it was enqueued, under ids of its own each time"
        findings.add(AnomalyKind.CLONED, message, words, times=len(ids) - tried, ids=ids, reader=reader)


def _judge_acks(ledger: Ledger, delivered: Multiset, findings: Findings) -> None:
    """premature-ack: in K, not in D."""
    if not ledger.acks:
        return
    for message in differing(ledger.acked, delivered):
        times = ledger.acked[message]
        if times and not delivered[message]:
            findings.add(AnomalyKind.PREMATURE_ACK, message, "acknowledged by a consumer, never delivered", times=times)


def _deliveries(group: ColumnGroup) -> Iterator[tuple[Message, int, int, int | None]]:
    """Each message of each op: when the op was invoked and ended, and the id's code."""
    messages = map(Message, group.producers, group.sequences)
    invoked, ended = group.per_message(group.invoked_ns), group.per_message(group.ends_ns())
    return zip(messages, invoked, ended, group.codes(), strict=True)


def _unknown(ledger: Ledger) -> str:
    number = sum(map(len, ledger.unknown_dequeues))
    return "a dequeue of unknown outcome" if number == 1 else f"{number} dequeues of unknown outcome"


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
