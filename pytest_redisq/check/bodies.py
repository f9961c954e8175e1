"""Whether what arrived is what was sent."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence

from pytest_redisq.check.counted import CountedHistory
from pytest_redisq.check.evidence import Example
from pytest_redisq.history.columns import ColumnGroup
from pytest_redisq.model import UNREADABLE, Message

#: No id known, or more than one; below any code of `Ids` that a history can hold.
_NO_ID = -(2**63)


def unreadable_bodies(counted: CountedHistory) -> Iterator[Example]:
    """The dequeues that brought a body that no producer sent whole."""
    for group in counted.dequeues:
        if group.span().whole:
            continue
        width = group.key.width
        hits = [at for at, producer in enumerate(group.producers) if producer < 0]
        for _, row in group.rows_at({at // width for at in hits}):
            op = counted.history.op(group.key, row)
            times = sum(message.producer < 0 for message in op.messages)
            words = f"a body that no producer of this run sent whole{': ' if op.error else ''}{op.error}"
            yield Example(UNREADABLE, words, times, op.ids, op)


def wrong_ids(counted: CountedHistory) -> Iterator[Example]:
    """The deliveries under an id that the queue had given to another message."""
    dequeues, enqueues = ([each for each in ops if each.key.named] for ops in (counted.dequeues, counted.enqueues))
    if not dequeues or not enqueues:
        return
    suspects = _under_another_id(dequeues, _ids_given(enqueues, counted.sizes))
    for group in enqueues if suspects else ():
        for message, code in _named(group):
            for impostor in suspects.get(code, ()):
                if impostor != message:
                    text = counted.history.ids.text(code)
                    words = f"delivered under the id {text}, which the queue had given to message {message}"
                    yield Example(impostor, words, ids=(text,))


def _ids_given(enqueues: Sequence[ColumnGroup], sizes: Sequence[int]) -> list[array[int]]:
    """For each message the id that its only acknowledged enqueue returned."""
    given = [array("q", [_NO_ID]) * size for size in sizes]
    for group in enqueues:
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
