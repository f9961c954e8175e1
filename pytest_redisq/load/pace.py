"""How fast messages are to be sent, as a function of time: an open model, in which a slow server changes nothing.

A pace is a list of corners (seconds, messages a second) with straight lines between them; after the last corner the
rate stays. `1000` is a constant rate, `0:100,60:5000` a ramp, `0:500,10:500,10:5000,12:5000,12:500` a spike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self


class _Stretch(NamedTuple):
    """From `start` (seconds), when `before` messages are due, the rate is `rate`, and grows by `growth` a second."""

    start: float
    before: float
    rate: float
    growth: float


@dataclass(frozen=True, slots=True)
class Pace:
    """When each message is due."""

    stretches: tuple[_Stretch, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The pace that `text` describes (see above). ValueError teaches.

        >>> Pace.parse("1000").due(500)
        0.5
        """
        try:
            corners = [_corner(word) for word in text.split(",")]
        except ValueError:
            corners = []
        in_order = all(one[0] <= two[0] for one, two in pairwise(corners))
        if not corners or corners[0][0] != 0 or not in_order or corners[-1][1] <= 0:
            raise ValueError(
                f"{text!r} is no rate: give messages a second, such as 1000, or corners SECONDS:RATE that begin at 0 "
                "and end above 0, such as 0:100,60:5000 for a ramp of a minute"
            )
        return cls(tuple(_stretches(corners)))

    def due(self, number: int) -> float:
        """When the `number`-th message (from 0) is to be sent, in seconds from the start."""
        stretch = next(each for each in reversed(self.stretches) if each.before <= number)
        ahead = number - stretch.before
        if stretch.growth == 0:
            return stretch.start + (ahead / stretch.rate if stretch.rate else 0.0)
        # ahead = rate · t + growth · t² / 2
        root = math.sqrt(max(stretch.rate**2 + 2 * stretch.growth * ahead, 0.0))
        return stretch.start + (root - stretch.rate) / stretch.growth


def _corner(word: str) -> tuple[float, float]:
    seconds, colon, rate = word.rpartition(":")
    corner = (float(seconds) if colon else 0.0, float(rate))
    if not all(0 <= number < math.inf for number in corner):
        raise ValueError(word)
    return corner


def _stretches(corners: list[tuple[float, float]]) -> list[_Stretch]:
    stretches, before = [], 0.0
    for (start, rate), (end, next_rate) in pairwise(corners):
        if end > start:
            stretches.append(_Stretch(start, before, rate, (next_rate - rate) / (end - start)))
            before += (rate + next_rate) / 2 * (end - start)
    start, rate = corners[-1]
    return [*stretches, _Stretch(start, before, rate, 0.0)]
