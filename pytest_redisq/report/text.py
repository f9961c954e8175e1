"""A verdict in plain words, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from pytest_redisq.check import LAWS, Anomaly, AnomalyKind, ErrorCount, Verdict
from pytest_redisq.model import NO_MESSAGE, UNREADABLE, Kind, Message, Op, Outcome
from pytest_redisq.report.hints import hints
from pytest_redisq.terminal import escaped

#: Of each kind of anomaly this many are shown.
SHOWN_PER_KIND = 3

#: Of the errors that operations ended with, this many different ones are shown.
SHOWN_ERRORS = 4

#: An op upon more messages than these is shown with the first of them.
_SHOWN_PER_OP = 4


def explain(verdict: Verdict, *, start_ns: int = 0, shown: int = SHOWN_PER_KIND) -> str:
    """Headline, figures, the anomalies that break the contract with their first examples, and what to do next.

    * `start_ns`: times are shown relative to this reading of the history's clock, in nanoseconds; default 0.
    * `shown`: how many examples of each anomaly are shown; default 3.
    """
    broken = verdict.broken
    allowed = [kind for kind, times in verdict.counts.items() if times and kind not in broken]
    lines = [str(verdict), "", *_figures(verdict)]
    if verdict.reasons:
        lines += ["", "It cannot be told for certain:", *(f"  - {reason}" for reason in verdict.reasons)]
    if broken:
        lines += ["", f'Breaks "{verdict.contract}":', *_anomalies(verdict, broken, shown, start_ns)]
    if allowed:
        lines += ["", f'Seen, and allowed by "{verdict.contract}":', *_anomalies(verdict, allowed, 0, start_ns)]
    if verdict.not_judged:
        lines += ["", "Not judged:", *(f"  - {kind}: {why}" for kind, why in verdict.not_judged.items())]
    lines += [*error_lines(verdict.errors), *_faults(verdict, start_ns)]
    if verdict.notes:
        lines += ["", *(f"Note: {note}" for note in verdict.notes)]
    advice = list(_advice(verdict))
    # Actors, ids and errors are as a history has them, which may come from anywhere.
    return escaped("\n".join([*lines, *([""] if advice else []), *advice]), allowed="\n")


def error_lines(errors: Sequence[ErrorCount]) -> Iterator[str]:
    """The errors that operations ended with: each text once, with its count."""
    if errors:
        yield from ("", "Errors that operations ended with:")
        yield from (f"  {error.times:>10,} × {error.operation}: {error.text}" for error in errors[:SHOWN_ERRORS])
    if rest := sum(error.times for error in errors[SHOWN_ERRORS:]):
        yield f"             … and {rest:,} more"


def _faults(verdict: Verdict, start_ns: int) -> Iterator[str]:
    """Each fault, when it struck, and what. Those that struck nothing are among the reasons."""
    struck = [fault for fault in verdict.faults if fault.struck]
    if struck:
        yield from ("", "Faults:")
    for fault in struck:
        when = "" if fault.at_ns is None else f", {(fault.at_ns - start_ns) / 1e9:.3f} s after the start"
        yield f"  - {fault.fault}{when}: {fault.words}"


def _figures(verdict: Verdict) -> Iterator[str]:
    totals = verdict.totals
    yield f"  {totals.attempted:>10,} attempted   {totals.acknowledged:>10,} acknowledged by the queue"
    yield f"  {totals.delivered:>10,} delivered   {totals.acked:>10,} acknowledged by consumers"
    if totals.unknown_dequeues:
        yield f"  {totals.unknown_dequeues:>10,} dequeue{'s' if totals.unknown_dequeues > 1 else ''} of unknown outcome"
    if totals.failed or totals.unknown:
        yield f"  {totals.failed:>10,} failed      {totals.unknown:>10,} of unknown outcome, of those attempted"
    if totals.remaining or totals.pending:
        yield f"  {totals.remaining:>10,} left in the queue, and {totals.pending:,} pending, at the end"


def _anomalies(verdict: Verdict, kinds: Sequence[AnomalyKind], shown: int, start_ns: int) -> Iterator[str]:
    examples = {kind: list(group) for kind, group in groupby(verdict.anomalies, attrgetter("kind"))}
    for kind in kinds:
        yield f"  {verdict.counts[kind]:>10,} {kind}: {LAWS[kind].meaning}"
        first = examples.get(kind, [])[:shown]
        for anomaly in first:
            yield from _example(anomaly, start_ns)
        rest = verdict.counts[kind] - sum(anomaly.times for anomaly in first)
        if first and rest > 0:
            yield f"             … and {rest:,} more"


def _example(anomaly: Anomaly, start_ns: int) -> Iterator[str]:
    subject = f"message{'s' if anomaly.messages > 1 else ''} {anomaly.where}"
    if anomaly.message.producer < 0:
        subject = "an unreadable body" if anomaly.message == UNREADABLE else anomaly.reader
    ids = f" (id {', '.join(anomaly.ids)})" if anomaly.ids else ""
    reader = f", reader {anomaly.reader}" if anomaly.reader and anomaly.message != NO_MESSAGE else ""
    times = f", {anomaly.times:,} times" if anomaly.times > anomaly.messages else ""
    yield f"             {subject}{ids}{reader}{times}: {anomaly.words}"
    if anomaly.place:
        yield f"               it lies {anomaly.place}"
    if anomaly.last_seen:
        yield f"               last seen: {describe(anomaly.last_seen, start_ns)}"


def describe(op: Op, start_ns: int = 0) -> str:
    """An op in one line: who tried what upon what, how it ended, and when, in seconds from `start_ns` on."""
    upon = f" {_messages(op.messages)}" if op.messages else ""
    ids = f" (id {_some(op.ids)})" if op.ids else ""
    queue = f" on {op.queue}" if op.queue else ""
    error = f": {op.error}" if op.error else ""
    return f"{_VERBS[op.kind]}{upon}{ids}{queue} by {op.actor}, {_ended(op, start_ns)}{error}"


_VERBS = {
    Kind.ENQUEUE: "enqueue of",
    Kind.DEQUEUE: "dequeue of",
    Kind.ACK: "ack of",
    Kind.DRAIN: "drain of",
    Kind.WORK: "work on",
}


def _ended(op: Op, start_ns: int) -> str:
    start = f"invoked at {(op.invoked_ns - start_ns) / 1e9:.6f} s"
    if op.ended_ns is None:
        return f"{start} and never ended"
    words = {Outcome.OK: "ok", Outcome.FAIL: "failed", Outcome.INFO: "with unknown outcome"}[op.outcome]
    return f"{words}, {start}, {(op.ended_ns - op.invoked_ns) / 1e6:.3f} ms long"


def _messages(messages: Sequence[Message]) -> str:
    return _some([str(message) for message in messages])


def _some(words: Sequence[str]) -> str:
    more = len(words) - _SHOWN_PER_OP
    return ", ".join(words[:_SHOWN_PER_OP]) + (f" and {more} more" if more > 0 else "")


def _advice(verdict: Verdict) -> Iterator[str]:
    if advised := hints(verdict):
        yield "What to look at:"
        yield from (f"  - {hint}" for hint in advised)
    if verdict.outcome == "unknown" and any(map(verdict.contract.needs, verdict.not_judged)):
        yield "To have these laws judged, use redisq.run or redisq.explore: they record every operation with its ids."
    elif _may_yet_settle(verdict):
        yield "To be told more, let the run end in quiescence: producers done, faults healed, the queue drained."


def _may_yet_settle(verdict: Verdict) -> bool:
    """Whether it is unknown as the run did not end in quiescence, and not for want of messages or of a fault."""
    seen = verdict.totals.acknowledged and not verdict.totals.remaining
    return verdict.outcome == "unknown" and bool(seen) and all(fault.struck for fault in verdict.faults)
