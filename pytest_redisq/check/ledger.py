"""The multisets that the laws are about, counted once from a history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_redisq.check.tally import Tally, dense_sizes
from pytest_redisq.history import History, Quiescence
from pytest_redisq.history.columns import Strand
from pytest_redisq.model import Kind, Message, Outcome

_TAKES = frozenset({Kind.DEQUEUE, Kind.DRAIN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """A history's strands by role, and its messages as multisets: the A, E, P and K of `contract.LAWS`.

    Where every enqueue was acknowledged, A, E and P are one and the same object.
    """

    history: History
    sizes: tuple[int, ...]
    enqueues: tuple[Strand, ...]  # acknowledged ones
    dequeues: tuple[Strand, ...]  # ok ones, drains among them
    acks: tuple[Strand, ...]  # ok ones
    unknown_dequeues: tuple[Strand, ...]
    attempted: Tally
    acknowledged: Tally
    possible: Tally
    acked: Tally
    remaining: Tally
    pending: Tally

    @classmethod
    def of(cls, history: History) -> Ledger:
        strands = history.strands
        attempts = [strand for strand in strands if strand.shape.kind is Kind.ENQUEUE]
        ok = [strand for strand in strands if strand.shape.outcome is Outcome.OK]
        enqueues = tuple(strand for strand in ok if strand.shape.kind is Kind.ENQUEUE)
        possible = [strand for strand in attempts if strand.shape.outcome is not Outcome.FAIL]
        acks = tuple(strand for strand in ok if strand.shape.kind is Kind.ACK)
        takes = [strand for strand in strands if strand.shape.kind in _TAKES]
        sizes = dense_sizes(attempts)
        acknowledged = Tally(sizes, enqueues)
        end = history.quiescence or Quiescence(at_ns=0)
        return cls(
            history=history,
            sizes=sizes,
            enqueues=enqueues,
            dequeues=tuple(strand for strand in takes if strand.shape.outcome is Outcome.OK and strand.shape.width),
            acks=acks,
            unknown_dequeues=tuple(strand for strand in takes if strand.shape.outcome is Outcome.INFO),
            attempted=acknowledged if len(attempts) == len(enqueues) else Tally(sizes, attempts),
            acknowledged=acknowledged,
            possible=acknowledged if len(possible) == len(enqueues) else Tally(sizes, possible),
            acked=Tally(sizes if acks else (), acks),
            remaining=_inside(end.remaining),
            pending=_inside(end.pending),
        )

    def readers(self) -> dict[str, Sequence[Strand]]:
        """The ok dequeues of each actor that ever tried one. Whoever only drains what is left reads for nobody."""
        readers: defaultdict[str, list[Strand]] = defaultdict(list)
        for strand in self.history.strands:
            if strand.shape.kind is Kind.DEQUEUE:
                took = strand.shape.outcome is Outcome.OK and strand.shape.width
                readers[strand.shape.actor].extend([strand] if took else [])
        return dict(readers)

    def trimmed(self) -> Tally:
        """The acknowledged messages whose ids the queue declared that it threw away."""
        end = self.history.quiescence
        gone = {self.history.ids.code(text) for text in end.trimmed} if end else set()
        found = Tally(())
        for strand in self.enqueues if gone else ():
            triples = zip(strand.ids, strand.producers, strand.sequences, strict=True)
            found.extend(Message(producer, sequence) for code, producer, sequence in triples if code in gone)
        return found


def _inside(messages: tuple[Message, ...]) -> Tally:
    tally = Tally(())
    tally.extend(messages)
    return tally
