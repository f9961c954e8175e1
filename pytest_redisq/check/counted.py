"""A history's messages as multisets, counted once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_redisq.check.multiset import Multiset, dense_sizes
from pytest_redisq.history import History, Quiescence
from pytest_redisq.history.columns import ColumnGroup
from pytest_redisq.model import Kind, Message, Outcome

_TAKES = frozenset({Kind.DEQUEUE, Kind.DRAIN})


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedHistory:
    """A history's groups by role, and its messages as multisets: the A, E, P and K of `contract.LAWS`.

    Where every enqueue was acknowledged, A, E and P are one and the same object.
    """

    history: History
    sizes: tuple[int, ...]
    enqueues: tuple[ColumnGroup, ...]  # acknowledged ones
    dequeues: tuple[ColumnGroup, ...]  # ok ones, drains among them
    acks: tuple[ColumnGroup, ...]  # ok ones
    unknown_dequeues: tuple[ColumnGroup, ...]
    attempted: Multiset
    acknowledged: Multiset
    possible: Multiset
    acked: Multiset
    remaining: Multiset
    pending: Multiset

    @classmethod
    def of(cls, history: History) -> CountedHistory:
        groups = history.groups
        attempts = [group for group in groups if group.key.kind is Kind.ENQUEUE]
        ok = [group for group in groups if group.key.outcome is Outcome.OK]
        enqueues = tuple(group for group in ok if group.key.kind is Kind.ENQUEUE)
        possible = [group for group in attempts if group.key.outcome is not Outcome.FAIL]
        acks = tuple(group for group in ok if group.key.kind is Kind.ACK)
        takes = [group for group in groups if group.key.kind in _TAKES]
        sizes = dense_sizes(attempts)
        acknowledged = Multiset(sizes, enqueues)
        end = history.quiescence or Quiescence(at_ns=0)
        return cls(
            history=history,
            sizes=sizes,
            enqueues=enqueues,
            dequeues=tuple(group for group in takes if group.key.outcome is Outcome.OK and group.key.width),
            acks=acks,
            unknown_dequeues=tuple(group for group in takes if group.key.outcome is Outcome.INFO),
            attempted=acknowledged if len(attempts) == len(enqueues) else Multiset(sizes, attempts),
            acknowledged=acknowledged,
            possible=acknowledged if len(possible) == len(enqueues) else Multiset(sizes, possible),
            acked=Multiset(sizes if acks else (), acks),
            remaining=_inside(end.remaining),
            pending=_inside(end.pending),
        )

    def readers(self) -> dict[str, Sequence[ColumnGroup]]:
        """The ok dequeues of each actor that ever tried one. Whoever only drains what is left reads for nobody."""
        readers: defaultdict[str, list[ColumnGroup]] = defaultdict(list)
        for group in self.history.groups:
            if group.key.kind is Kind.DEQUEUE:
                took = group.key.outcome is Outcome.OK and group.key.width
                readers[group.key.actor].extend([group] if took else [])
        return dict(readers)

    def trimmed(self, *, bounded: bool) -> Multiset:
        """The acknowledged messages that the queue removed by a bound.

        `bounded`: whether a bound was agreed. Only then do messages without ids count, of which the server says no more
        than that it trimmed something.
        """
        end = self.history.quiescence
        gone = {self.history.ids.code(text) for text in end.trimmed} if end else set()
        found = Multiset(())
        found.extend(end.trimmed_messages if end and bounded else ())
        for group in (each for each in self.enqueues if gone and each.key.named):
            triples = zip(group.ids, group.producers, group.sequences, strict=True)
            found.extend(Message(producer, sequence) for code, producer, sequence in triples if code in gone)
        return found


def _inside(messages: tuple[Message, ...]) -> Multiset:
    multiset = Multiset(())
    multiset.extend(messages)
    return multiset
