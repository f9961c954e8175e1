"""The rate of messages as a function of time. It is an open model: a slow server does not slow the producers.

A rate profile is a list of breakpoints (seconds, messages per second) with straight lines between them. After the last
breakpoint the rate is constant. `1000` is a constant rate, `0:100,60:5000` a ramp, and
`0:500,10:500,10:5000,12:5000,12:500` a spike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self


class _RateSegment(NamedTuple):
    """From `start` (seconds) the rate is `rate` and grows by `growth` per second. `before`: messages due until then."""

    start: float
    before: float
    rate: float
    growth: float


@dataclass(frozen=True, slots=True)
class RateProfile:
    """Computes when each message is due."""

    segments: tuple[_RateSegment, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The profile that `text` describes (see above). Raises ValueError with the syntax.

        >>> RateProfile.parse("1000").due(500)
        0.5
        """
        try:
            breakpoints = [_breakpoint(word) for word in text.split(",")]
        except ValueError:
            breakpoints = []
        in_order = all(one[0] <= two[0] for one, two in pairwise(breakpoints))
        if not breakpoints or breakpoints[0][0] != 0 or not in_order or breakpoints[-1][1] <= 0:
            raise ValueError(
                f"{text!r} is not a rate: write messages per second, such as 1000, or breakpoints SECONDS:RATE that "
                "begin at 0 and end above 0, such as 0:100,60:5000 for a ramp of one minute"
            )
        return cls(tuple(_segments(breakpoints)))

    def due(self, number: int) -> float:
        """When message `number` (from 0) is due, in seconds from the start."""
        segment = next(each for each in reversed(self.segments) if each.before <= number)
        ahead = number - segment.before
        if segment.growth == 0:
            return segment.start + (ahead / segment.rate if segment.rate else 0.0)
        # ahead = rate · t + growth · t² / 2
        root = math.sqrt(max(segment.rate**2 + 2 * segment.growth * ahead, 0.0))
        return segment.start + (root - segment.rate) / segment.growth


def _breakpoint(word: str) -> tuple[float, float]:
    seconds, colon, rate = word.rpartition(":")
    breakpoint_ = (float(seconds) if colon else 0.0, float(rate))
    if not all(0 <= number < math.inf for number in breakpoint_):
        raise ValueError(word)
    return breakpoint_


def _segments(breakpoints: list[tuple[float, float]]) -> list[_RateSegment]:
    segments, before = [], 0.0
    for (start, rate), (end, next_rate) in pairwise(breakpoints):
        if end > start:
            segments.append(_RateSegment(start, before, rate, (next_rate - rate) / (end - start)))
            before += (rate + next_rate) / 2 * (end - start)
    start, rate = breakpoints[-1]
    return [*segments, _RateSegment(start, before, rate, 0.0)]
