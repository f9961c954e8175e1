"""The laws of fan-out: every reader gets every entry, in the order of the ids."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_redisq.check.contract import AnomalyKind, Contract
from pytest_redisq.check.delivery import judge_clones, judge_surplus, repeats
from pytest_redisq.check.findings import Findings
from pytest_redisq.check.ledger import Ledger
from pytest_redisq.check.multiset import Multiset, differing
from pytest_redisq.check.order import judge_order
from pytest_redisq.history.columns import ColumnGroup, Row
from pytest_redisq.model import Kind, Message, Outcome

#: Lower and higher than the code of any stream ID.
_LOWEST, _HIGHEST = -1, 2**63 - 1


def judge_readers(ledger: Ledger, contract: Contract, findings: Findings, *, quiescent: bool) -> int:
    """Judge each reader for itself. Returns how many entries readers are owed and have not got (yet)."""
    trimmed = ledger.trimmed()
    missing = 0
    for name, dequeues in sorted(ledger.readers().items()):
        reader = _Reader.of(ledger, name, dequeues)
        for message in differing(ledger.acknowledged, reader.delivered, ledger.attempted, ledger.possible):
            judge_surplus(ledger, reader.delivered, message, findings, reader=name)
        for message, repeat in repeats(ledger, reader.delivered, tuple(dequeues)).items():
            judge_clones(ledger, reader.delivered, message, repeat, findings, reader=name)
        missing += _judge_missing(ledger, reader, trimmed, findings, quiescent=quiescent)
        _judge_polls(ledger, reader, findings)
        if contract.fifo:
            judge_order(ledger, reader.delivered, dequeues, findings, reader=name)
    return missing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """What one reader got. `lowest` and `highest` are codes of its stream IDs, and cross where it got none."""

    name: str
    dequeues: Sequence[ColumnGroup]
    delivered: Multiset
    excuse: int  # how many entries its polls of unknown outcome may have had, each as many as the largest known
    first_ended_ns: int  # of its ok polls
    lowest: int
    highest: int

    @classmethod
    def of(cls, ledger: Ledger, name: str, dequeues: Sequence[ColumnGroup]) -> _Reader:
        groups = ledger.history.groups
        polls = [each for each in groups if each.key.actor == name and each.key.kind is Kind.DEQUEUE]
        unknown = sum(len(group) for group in polls if group.key.outcome is Outcome.INFO)
        ok = [group for group in polls if group.key.outcome is Outcome.OK]
        named = [group for group in dequeues if group.key.named]
        return cls(
            name=name,
            dequeues=dequeues,
            delivered=Multiset(ledger.sizes, dequeues),
            excuse=unknown * max((group.key.width for group in dequeues), default=1),
            first_ended_ns=min((min(group.ends_ns()) for group in ok), default=_HIGHEST),
            lowest=min((code for group in named for code in group.ids if code >= 0), default=_HIGHEST),
            highest=max((code for group in named for code in group.ids), default=_LOWEST),
        )

    def skipped(self, code: int) -> bool:
        """Whether an entry of that id lay between two that this reader got."""
        return self.lowest < code < self.highest

    def may_have_joined_after(self, invoked_ns: int, code: int) -> bool:
        """Whether the entry may have been there before this reader had told the server that it listens.

        It had for certain once a poll had ended well; and from the first entry it got, all later ones are its due.
        """
        return invoked_ns <= self.first_ended_ns and code < self.lowest


def _judge_missing(ledger: Ledger, reader: _Reader, trimmed: Multiset, findings: Findings, *, quiescent: bool) -> int:
    if next(differing(ledger.acknowledged, reader.delivered), None) is None:
        return 0
    missing = 0
    for message, invoked_ns, code in _enqueued(ledger, reader.delivered):
        ids = (ledger.history.ids.text(code),) if code is not None else ()
        known = _LOWEST if code is None else code
        if trimmed[message]:
            if quiescent:
                words = "thrown away by the stream's own bound before this reader got it"
                findings.add(AnomalyKind.TRIMMED, message, words, ids=ids, reader=reader.name)
            continue
        if known >= 0 and reader.skipped(known):
            # poll-skip: two polls of the reader gave a lower and a higher id, none gave this one
            words = "passed over: the reader got entries before it and after it"
            findings.add(AnomalyKind.POLL_SKIP, message, words, ids=ids, reader=reader.name)
        elif reader.may_have_joined_after(invoked_ns, known):
            words = "enqueued before this reader's first poll had ended: it may not have been listening yet"
            findings.add(AnomalyKind.LATE_JOIN, message, words, ids=ids, reader=reader.name)
            continue
        missing += 1
        if not quiescent:
            continue
        if missing <= reader.excuse:
            words = "never delivered to this reader; one of its polls of unknown outcome may have had it"
            findings.add(AnomalyKind.INDETERMINATE, message, words, ids=ids, reader=reader.name)
        else:
            # lost, for this reader: owed, and not delivered to it
            words = "acknowledged, never delivered to this reader"
            findings.add(AnomalyKind.LOST, message, words, ids=ids, reader=reader.name)
    return missing


def _enqueued(ledger: Ledger, delivered: Multiset) -> Iterator[tuple[Message, int, int | None]]:
    """The acknowledged messages that are not in `delivered`: when each was invoked, and its id's code."""
    for group in ledger.enqueues:
        invoked = group.per_message(group.invoked_ns)
        columns = zip(group.producers, group.sequences, invoked, group.codes(), strict=True)
        for producer, sequence, invoked_ns, code in columns:
            message = Message(producer, sequence)
            if not delivered[message]:
                yield message, invoked_ns, code


def _judge_polls(ledger: Ledger, reader: _Reader, findings: Findings) -> None:
    """nonmonotonic-poll: a delivery whose id is not above all that this reader had got before."""
    named = [group for group in reader.dequeues if group.key.named]
    if len(named) == 1 and not named[0].invoked_ns.falls and _rises(named[0]):
        return
    highest = _LOWEST
    for row in heapq.merge(*(group.rows() for group in named), key=_invocation):
        for message, code in zip(row.messages, row.ids, strict=True):
            if 0 <= code <= highest:
                here, before = ledger.history.ids.text(code), ledger.history.ids.text(highest)
                words = f"delivered under {here} to a reader that had already got {before}"
                findings.add(AnomalyKind.NONMONOTONIC_POLL, message, words, ids=(here,), reader=reader.name)
            highest = max(highest, code)


def _rises(group: ColumnGroup) -> bool:
    """Whether each id is a stream ID above the last; the first step is 0 by construction."""
    steps = group.ids.steps.cells
    return group.ids.first >= 0 and not group.ids.falls and steps.count(0) == 1


def _invocation(row: Row) -> int:
    return row.invoked_ns
