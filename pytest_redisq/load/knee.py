"""Where the knee is: the highest rate at which a queue still keeps what was asked of it."""

from __future__ import annotations

from collections.abc import Callable

#: The first rate that is tried, in messages a second, and the last.
LOWEST, HIGHEST = 250.0, 10_000_000.0


def capacity(keeps: Callable[[float], bool], *, precision: float = 0.1) -> float:
    """The highest rate, within `precision` of itself, for which `keeps(rate)` is true; 0.0 if even the lowest is not.

    Doubles the rate until it breaks, then halves what lies between.

    >>> capacity(lambda rate: rate <= 5_000, precision=0.01) > 4_900
    True
    """
    held, broken = 0.0, LOWEST
    while broken <= HIGHEST and keeps(broken):
        held, broken = broken, 2 * broken
    if broken > HIGHEST or not held:
        return held
    while broken - held > precision * held:
        middle = (held + broken) / 2
        if keeps(middle):
            held = middle
        else:
            broken = middle
    return held
