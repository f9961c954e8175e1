"""The laws of queues whose consumers share the messages: what went in against what came out."""

from __future__ import annotations

from pytest_redisq.check.contract import AnomalyKind
from pytest_redisq.check.evidence import Counts, Knowledge, Messages, Repeat, Share
from pytest_redisq.check.findings import Findings, times_in_words

_IDS_UNRECORDED = "delivered again, and no record was kept of the ids"


class _Excuse:
    """How many missing messages dequeues of unknown outcome can still explain."""

    def __init__(self, number: float) -> None:
        self._left = number

    def take(self, each: int, messages: Messages) -> list[tuple[Messages, int]]:
        """Excuse as much as possible of `messages`, each missing `each` times. Returns how often each was excused."""
        excused, rest = messages.split(int(min(len(messages), self._left / each)))
        pieces = [(excused, each)]
        self._left -= len(excused) * each
        if len(rest) and self._left:
            partly, rest = rest.split(1)
            pieces.append((partly, int(self._left)))
            self._left = 0
        return [*pieces, (rest, 0)]


def judge_delivery(share: Share, findings: Findings, *, quiescent: bool) -> int:
    """Every law that compares the multisets.

    Returns how many acknowledged messages were not delivered, and are not inside.
    """
    missing = 0
    excuse = _Excuse(share.excuse)
    for counts, messages in share.uneven():
        judge_surplus(counts, messages, findings, reader=share.reader)
        gap = counts.acknowledged - counts.delivered - counts.remaining - counts.pending
        if gap > 0:
            missing += gap * len(messages)
            if quiescent:
                _judge_gap(share, counts, gap, messages, excuse, findings)
        if counts.pending or counts.remaining:
            _judge_inside(share, counts, messages, findings, quiescent=quiescent)
    if quiescent:
        _judge_in_flight(share, excuse, findings)
    for repeat in share.repeats():
        judge_clones(share, repeat, findings)
        _judge_redelivery(share, repeat, findings)
    _judge_acks(share, findings)
    return missing


def judge_surplus(counts: Counts, messages: Messages, findings: Findings, *, reader: str) -> None:
    """Delivered more often than its enqueues account for."""
    took, tried, possible, sure = counts.delivered, counts.attempted, counts.possible, counts.acknowledged
    if took and not tried:
        # unexpected = in D, never attempted (not in A)
        words = "delivered, though no producer tried to send it"
        findings.add(AnomalyKind.UNEXPECTED, messages, words, times=took, reader=reader)
    elif took > tried:
        # duplicated = D − A
        words = f"attempted {times_in_words(tried)}, delivered {times_in_words(took)}"
        findings.add(AnomalyKind.DUPLICATED, messages, words, times=took - tried, reader=reader)
    if min(took, tried) > possible:
        # false-fail = (D ∩ A) − P
        words = "delivered, though its enqueue was told that it had certainly not happened"
        findings.add(AnomalyKind.FALSE_FAIL, messages, words, times=min(took, tried) - possible, reader=reader)
    if min(took, possible) > sure:
        # recovered = (D ∩ P) − E
        words = "delivered; the outcome of its enqueue was unknown"
        findings.add(AnomalyKind.RECOVERED, messages, words, times=min(took, possible) - sure, reader=reader)


def _judge_gap(share: Share, counts: Counts, gap: int, messages: Messages, excuse: _Excuse, findings: Findings) -> None:
    """`gap` acknowledged enqueues of each of `messages` have no delivery, and the queue does not hold them."""
    thrown = min(gap, counts.trimmed)
    if thrown:
        words = "acknowledged, then thrown away undelivered by the queue's own bound"
        findings.add(AnomalyKind.TRIMMED, messages, words, times=thrown, reader=share.reader)
    gap -= thrown
    if not gap:
        return
    for some, excused in excuse.take(gap, messages):
        if excused:
            # indeterminate: missing, and as many as the dequeues of unknown outcome can have taken
            words = f"acknowledged, never delivered; {share.unknown_dequeues} may have taken it"
            findings.add(AnomalyKind.INDETERMINATE, some, words, times=excused, reader=share.reader)
        if gap > excused:
            # lost = E − D, less what is inside, trimmed or indeterminate
            words = "acknowledged, never delivered, and no longer in the queue"
            if share.unknown_dequeues:
                words += f"; more are missing than {share.unknown_dequeues} can have taken"
            findings.add(AnomalyKind.LOST, some, words, times=gap - excused, reader=share.reader)


def _judge_inside(share: Share, counts: Counts, messages: Messages, findings: Findings, *, quiescent: bool) -> None:
    """The queue still held `messages` at the end: to be had (remaining) or with no way out (pending)."""
    if counts.acked and counts.acked >= counts.delivered:
        # false-ack: K has every delivery of it, and yet it is inside
        words, inside = "acknowledged, and still in the queue at the end", counts.pending + counts.remaining
        findings.add(AnomalyKind.FALSE_ACK, messages, words, times=inside, reader=share.reader)
    elif counts.pending and quiescent:
        # stuck = inside at quiescence with no way out
        words = "delivered, never acknowledged, and not delivered again" if counts.delivered else "never delivered"
        words += ": it is still in the queue"
        findings.add(AnomalyKind.STUCK, messages, words, times=counts.pending, reader=share.reader)


def _judge_in_flight(share: Share, excuse: _Excuse, findings: Findings) -> None:
    """forgotten: all of D were in flight at the end, none of D is in K or may be, and it is not inside."""
    if share.acks is Knowledge.UNRECORDED:
        findings.leave_out(AnomalyKind.FORGOTTEN, "no record was kept of the acknowledgements by consumers")
    words = "delivered only to a consumer that did not finish it, not delivered again, and no longer in the queue"
    for owed, messages in share.in_flight():
        for some, excused in excuse.take(owed, messages):
            if excused:
                taken = f"{words}; a dequeue of unknown outcome may have taken it"
                findings.add(AnomalyKind.INDETERMINATE, some, taken, times=excused, reader=share.reader)
            if owed > excused:
                findings.add(AnomalyKind.FORGOTTEN, some, words, times=owed - excused, reader=share.reader)


def judge_clones(share: Share, repeat: Repeat, findings: Findings) -> None:
    """cloned: in D − A, and its deliveries' ids are more than A, or are missing."""
    tried = repeat.attempted
    extra = repeat.delivered - tried
    if not tried or extra <= 0:
        return
    if share.ids is Knowledge.UNRECORDED:
        findings.leave_out(AnomalyKind.CLONED, f"{len(repeat.messages):,} messages were {_IDS_UNRECORDED}")
    elif share.ids is Knowledge.ABSENT or repeat.nameless:
        words = "delivered again with no id by which a consumer could tell"
        findings.add(AnomalyKind.CLONED, repeat.messages, words, times=extra, reader=share.reader)
    elif len(repeat.ids) > tried:
        words = "in the queue more often than it was enqueued, under ids of its own each time"
        times = len(repeat.ids) - tried
        findings.add(AnomalyKind.CLONED, repeat.messages, words, times=times, ids=repeat.ids, reader=share.reader)


def _judge_redelivery(share: Share, repeat: Repeat, findings: Findings) -> None:
    """false-ack: an ok ack ended before a delivery under the same id was invoked."""
    if repeat.after_ack is False or share.ids is Knowledge.ABSENT or share.acks is not Knowledge.RECORDED:
        return
    if share.ids is Knowledge.UNRECORDED:
        why = f"{len(repeat.messages):,} acknowledged messages were {_IDS_UNRECORDED}"
        findings.leave_out(AnomalyKind.FALSE_ACK, why)
    elif not repeat.nameless and len(repeat.ids) == 1:
        if repeat.after_ack is None:
            findings.leave_out(AnomalyKind.FALSE_ACK, "no record was kept of whether an ack or a delivery came first")
            return
        words = "delivered again after it had been acknowledged"
        findings.add(AnomalyKind.FALSE_ACK, repeat.messages, words, ids=repeat.ids, reader=share.reader)


def _judge_acks(share: Share, findings: Findings) -> None:
    """premature-ack: in K, not in D."""
    if share.acks is Knowledge.UNRECORDED:
        why = "no record was kept of the acknowledgements by consumers"
        findings.leave_out(AnomalyKind.PREMATURE_ACK, why)
        findings.leave_out(AnomalyKind.FALSE_ACK, why)
    for times, messages in share.never_delivered():
        words = "acknowledged by a consumer, but never delivered"
        findings.add(AnomalyKind.PREMATURE_ACK, messages, words, times=times, reader=share.reader)
