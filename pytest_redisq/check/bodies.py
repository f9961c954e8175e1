"""Whether what arrived is what was sent."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator

from pytest_redisq.check.contract import AnomalyKind
from pytest_redisq.check.findings import Findings
from pytest_redisq.check.ledger import Ledger
from pytest_redisq.history.columns import ColumnGroup
from pytest_redisq.model import UNREADABLE, Message

#: No id known, or more than one; below any code of `Ids` that a history can hold.
_NO_ID = -(2**63)


def judge_bodies(ledger: Ledger, findings: Findings) -> None:
    """corrupted: a body that no producer sent whole, or one that came under the id that another message was given."""
    for group in ledger.dequeues:
        if not group.span().whole:
            _judge_unreadable(ledger, group, findings)
    named = [group for group in ledger.dequeues if group.key.named]
    if not named or not any(group.key.named for group in ledger.enqueues):
        return
    suspects = _under_another_id(named, _ids_given(ledger))
    for group in ledger.enqueues if suspects else ():
        for message, code in _named(group):
            for impostor in suspects.get(code, ()):
                if impostor != message:
                    text = ledger.history.ids.text(code)
                    words = f"delivered under the id {text}, which the queue had given to message {message}"
                    findings.add(AnomalyKind.CORRUPTED, impostor, words, ids=(text,))


def _judge_unreadable(ledger: Ledger, group: ColumnGroup, findings: Findings) -> None:
    width = group.key.width
    hits = [at for at, producer in enumerate(group.producers) if producer < 0]
    for _, row in group.rows_at({at // width for at in hits}):
        op = ledger.history.op(group.key, row)
        times = sum(message.producer < 0 for message in op.messages)
        words = f"a body that no producer of this run sent whole{': ' if op.error else ''}{op.error}"
        findings.add(AnomalyKind.CORRUPTED, UNREADABLE, words, times=times, ids=op.ids, op=op)


def _ids_given(ledger: Ledger) -> list[array[int]]:
    """For each message the id that its only acknowledged enqueue returned."""
    given = [array("q", [_NO_ID]) * size for size in ledger.sizes]
    for group in ledger.enqueues:
        for producer, sequence, code in zip(group.producers, group.sequences, group.ids, strict=True):
            try:
                if producer >= 0 and sequence >= 0:
                    given[producer][sequence] = code
            except IndexError:
                continue
    return given


def _under_another_id(dequeues: list[ColumnGroup], given: list[array[int]]) -> dict[int, list[Message]]:
    """The ids under which messages were delivered that had not been given them: few, in a sound history."""
    suspects: defaultdict[int, list[Message]] = defaultdict(list)
    for group in dequeues:
        for producer, sequence, code in zip(group.producers, group.sequences, group.ids, strict=True):
            try:
                known = given[producer][sequence] == code
            except IndexError:
                known = False
            if not known and producer >= 0 and sequence >= 0:
                suspects[code].append(Message(producer, sequence))
    return suspects


def _named(group: ColumnGroup) -> Iterator[tuple[Message, int]]:
    return zip(map(Message, group.producers, group.sequences), group.ids, strict=True)
