"""What each reader of a fan-out got, by the ids of a history: what it passed over, and where it went back."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_redisq.check.counted import CountedHistory
from pytest_redisq.check.evidence import Example, Missing, OneMessage
from pytest_redisq.check.multiset import Multiset, differing
from pytest_redisq.history.columns import ColumnGroup, Row
from pytest_redisq.model import Kind, Message, Outcome

#: Lower and higher than the code of any stream ID.
_LOWEST, _HIGHEST = -1, 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What one reader got. `lowest` and `highest` are codes of its stream IDs, and cross where it got none."""

    name: str
    dequeues: Sequence[ColumnGroup]
    delivered: Multiset
    excuse: int  # how many entries its polls of unknown outcome may have had, each as many as the largest known
    first_ended_ns: int  # of its ok polls
    lowest: int
    highest: int

    @classmethod
    def of(cls, counted: CountedHistory, name: str, dequeues: Sequence[ColumnGroup]) -> Reader:
        groups = counted.history.groups
        polls = [each for each in groups if each.key.actor == name and each.key.kind is Kind.DEQUEUE]
        unknown = sum(len(group) for group in polls if group.key.outcome is Outcome.INFO)
        ok = [group for group in polls if group.key.outcome is Outcome.OK]
        named = [group for group in dequeues if group.key.named]
        return cls(
            name=name,
            dequeues=dequeues,
            delivered=Multiset(counted.sizes, dequeues),
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


def missing_entries(counted: CountedHistory, reader: Reader, trimmed: Multiset) -> Iterator[Missing]:
    """Every acknowledged entry that the reader never got."""
    if next(differing(counted.acknowledged, reader.delivered), None) is None:
        return
    for message, invoked_ns, code in _enqueued(counted, reader.delivered):
        ids = (counted.history.ids.text(code),) if code is not None else ()
        known = _LOWEST if code is None else code
        yield Missing(
            OneMessage(message),
            trimmed=trimmed[message] > 0,
            skipped=known >= 0 and reader.skipped(known),
            owed=not reader.may_have_joined_after(invoked_ns, known),
            ids=ids,
        )


def _enqueued(counted: CountedHistory, delivered: Multiset) -> Iterator[tuple[Message, int, int | None]]:
    """The acknowledged messages that are not in `delivered`: when each was invoked, and its id's code."""
    for group in counted.enqueues:
        invoked = group.per_message(group.invoked_ns)
        columns = zip(group.producers, group.sequences, invoked, group.codes(), strict=True)
        for producer, sequence, invoked_ns, code in columns:
            message = Message(producer, sequence)
            if not delivered[message]:
                yield message, invoked_ns, code


def backwards(counted: CountedHistory, reader: Reader) -> Iterator[Example]:
    """The deliveries whose id is not above all that the reader had got before."""
    named = [group for group in reader.dequeues if group.key.named]
    if len(named) == 1 and not named[0].invoked_ns.falls and _rises(named[0]):
        return
    highest = _LOWEST
    for row in heapq.merge(*(group.rows() for group in named), key=_invocation):
        for message, code in zip(row.messages, row.ids, strict=True):
            if 0 <= code <= highest:
                here, before = counted.history.ids.text(code), counted.history.ids.text(highest)
                words = f"delivered under {here} to a reader that had already got {before}"
                yield Example(message, words, ids=(here,))
            highest = max(highest, code)


def _rises(group: ColumnGroup) -> bool:
    """Whether each id is a stream ID above the last; the first step is 0 by construction."""
    steps = group.ids.steps.cells
    return group.ids.first >= 0 and not group.ids.falls and steps.count(0) == 1


def _invocation(row: Row) -> int:
    return row.invoked_ns
