"""The laws of fan-out: every reader gets every entry, in the order of the ids."""

from __future__ import annotations

from pytest_redisq.check.contract import AnomalyKind
from pytest_redisq.check.delivery import judge_clones, judge_surplus
from pytest_redisq.check.evidence import Knowledge, Missing, Share
from pytest_redisq.check.findings import Findings


def judge_reader(share: Share, findings: Findings, *, quiescent: bool) -> int:
    """Judge one reader. Returns how many entries it is owed and has not got (yet)."""
    for counts, messages in share.uneven():
        judge_surplus(counts, messages, findings, reader=share.reader)
    for repeat in share.repeats():
        judge_clones(share, repeat, findings)
    missing, excuse = 0, share.excuse
    for gap in share.missing():
        if gap.trimmed:
            if quiescent:
                words = "thrown away by the stream's own bound before this reader got it"
                findings.add(AnomalyKind.TRIMMED, gap.messages, words, ids=gap.ids, reader=share.reader)
        elif _judge_owed(share, gap, findings):
            missing += len(gap.messages)
            if quiescent:
                excuse = _judge_missing(share, gap, excuse, findings)
    for example in share.backwards():
        findings.show(AnomalyKind.NONMONOTONIC_POLL, example, reader=share.reader)
    if share.polls is Knowledge.UNRECORDED:
        why = "no record was kept of the order of the ids that readers got"
        findings.leave_out(AnomalyKind.NONMONOTONIC_POLL, why)
    return missing


def _judge_owed(share: Share, gap: Missing, findings: Findings) -> bool:
    """Whether the reader was owed what it did not get; also judges poll-skip and late-join."""
    if gap.skipped is None:
        findings.leave_out(AnomalyKind.POLL_SKIP, "messages are missing, and no record was kept of the ids")
    elif gap.skipped:
        # poll-skip: two polls of the reader gave a lower and a higher id, none gave this one
        words = "passed over: the reader got entries before it and after it"
        findings.add(AnomalyKind.POLL_SKIP, gap.messages, words, ids=gap.ids, reader=share.reader)
        return True
    if gap.owed is None:
        why = f"{len(gap.messages):,} messages never came to {share.reader or 'a reader'}, which may have joined later"
        findings.leave_out(AnomalyKind.LATE_JOIN, why)
        findings.leave_out(AnomalyKind.LOST, why)
        return False
    if not gap.owed:
        words = "enqueued before this reader's first poll had ended: it may not have been listening yet"
        findings.add(AnomalyKind.LATE_JOIN, gap.messages, words, ids=gap.ids, reader=share.reader)
    return gap.owed


def _judge_missing(share: Share, gap: Missing, excuse: float, findings: Findings) -> float:
    """Returns how many missing entries the reader's polls of unknown outcome can still explain."""
    excused, rest = gap.messages.split(int(min(len(gap.messages), excuse)))
    words = "never delivered to this reader; one of its polls of unknown outcome may have had it"
    findings.add(AnomalyKind.INDETERMINATE, excused, words, ids=gap.ids, reader=share.reader)
    # lost, for this reader: owed, and not delivered to it
    words = "acknowledged, never delivered to this reader"
    findings.add(AnomalyKind.LOST, rest, words, ids=gap.ids, reader=share.reader)
    return excuse - len(excused)
