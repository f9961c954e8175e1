"""Uniform random walk: an actor is as likely to go as it has steps left.

H. Zhao, D. Wolff, U. Mathur, A. Roychoudhury, "Selectively Uniform Concurrency Testing", ASPLOS 2025.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Mapping
from itertools import accumulate

from pytest_redisq.explore.schedule import ChoicePoint, Step


class UrwScheduler:
    """Weighs each enabled step by the steps that its actor has left, so that all interleavings are about as likely.

    `lengths`: how many steps each actor is expected to take.
    """

    def __init__(self, rng: random.Random, lengths: Mapping[int, int]) -> None:
        self._rng = rng
        self._lengths = dict(lengths)
        self._left = dict(lengths)

    def choose(self, point: ChoicePoint) -> Step:
        """An enabled step. An actor that takes more steps than expected keeps the weight 1."""
        if point.position == 0:  # again from the start, where the clients had to load their scripts
            self._left = dict(self._lengths)
        weights = [max(1, self._left.get(enabled.actor, 1)) for enabled in point.enabled_steps]
        drawn = bisect(list(accumulate(weights)), self._rng.random() * sum(weights))
        step = point.enabled_steps[drawn].step
        self._left[step.actor] = self._left.get(step.actor, 1) - 1
        return step
