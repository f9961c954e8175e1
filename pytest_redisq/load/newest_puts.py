"""When each producer of a user's own queue put its newest messages: what a bound may have removed is older."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pyroaring import BitMap64

from pytest_redisq.load.codec import key_of

#: Of each producer at most so many messages are kept.
_MOST = 10_000


@dataclass(slots=True)
class NewestPuts:
    """The newest messages of each producer that may be in the queue, as far as its bound `keeps` makes them matter.

    `times`: by producer, of each message its sequence, when its put began, and when that ended; nanoseconds.
    """

    keeps: int = 1
    times: dict[int, deque[tuple[int, int, int]]] = field(default_factory=dict)

    def add(self, producer: int, sequence: int, began_ns: int, ended_ns: int) -> None:
        """Add a message, later than all those of the same producer before."""
        if producer not in self.times:
            self.times[producer] = deque(maxlen=min(self.keeps, _MOST) + 1)
        self.times[producer].append((sequence, began_ns, ended_ns))

    def merge(self, other: NewestPuts) -> None:
        """Add those of another process, which has other producers."""
        self.keeps = max(self.keeps, other.keeps)
        self.times.update(other.times)

    def older(self, keys: BitMap64) -> BitMap64:
        """Those of `keys` after which the queue was perhaps given `keeps` other messages.

        Of messages that were put at the same time it is not known which was first: each may be older.
        """
        ends = sorted(ended_ns for puts in self.times.values() for _, _, ended_ns in puts)
        since_ns = ends[-self.keeps - 1] if len(ends) > self.keeps else -1
        older = BitMap64()
        for producer, puts in self.times.items():
            older.update(key_of(producer, number) for number, began_ns, _ in puts if began_ns <= since_ns)
            first, began_ns, _ = puts[0]
            if len(puts) > self.keeps or began_ns <= since_ns:
                older.add_range(key_of(producer, 0), key_of(producer, first))
        return keys & older

    def dump(self) -> list[Any]:
        """As plain values."""
        return [self.keeps, [(producer, list(puts)) for producer, puts in self.times.items()]]

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> Self:
        """The inverse of `dump`."""
        keeps, times = dumped
        return cls(keeps, {producer: deque(map(tuple, puts)) for producer, puts in times})
