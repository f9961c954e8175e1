"""Finds steps that only repeat the ones before them, as those of an actor that polls. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

#: The most steps that are repeated together: some actors that poll in turn.
_LONGEST_PERIOD = 12
#: Fewer steps are not left out: a line that says so would hardly be shorter.
_FEWEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Steps that are not shown: from position `first` to position `last`.

    `period`: how many steps before them they repeat; 0: they are the end of an execution, where nothing happens.
    """

    first: int
    last: int
    period: int

    def words(self, seconds: float) -> str:
        """Such as "27 × the same 2 steps, 54 s". `seconds`: the virtual time that passes in them."""
        count = self.last - self.first + 1
        said = f"{count} more steps, in which nothing comes"
        if self.period:
            said = f"{count // self.period} × the same{f' {self.period} steps' if self.period > 1 else ''}"
        return f"{said}, {seconds:g} s" if seconds else said


def fold(keys: Sequence[Hashable], *, end: int | None = None) -> list[int | LeftOut]:
    """The positions of the steps to show, and which steps are left out, in order.

    * `keys`: of each step; steps with equal keys are the same.
    * `end`: the position from which on nothing happens; default: none.
    """
    end = len(keys) if end is None or len(keys) - end < _FEWEST else end
    rows: list[int | LeftOut] = []
    at = 0
    while at < end:
        period, count = _repetition(keys[:end], at)
        rows += range(at, at + period)
        if count:
            rows.append(LeftOut(first=at + period, last=at + period + count - 1, period=period))
        at += period + count
    return [*rows, LeftOut(first=end, last=len(keys) - 1, period=0)] if end < len(keys) else rows


def _repetition(keys: Sequence[Hashable], at: int) -> tuple[int, int]:
    """How many steps from `at` on are repeated, and how many steps after them only repeat them: the most there are.

    (1, 0) if they are too few.
    """
    best = 1, 0
    for period in range(1, _LONGEST_PERIOD + 1):
        first, count = keys[at : at + period], 0
        while len(first) == period and keys[at + period + count : at + 2 * period + count] == first:
            count += period
        if count >= _FEWEST and count > best[1]:
            best = period, count
    return best
