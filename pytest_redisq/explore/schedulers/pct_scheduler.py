"""Probabilistic concurrency testing.

S. Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010.
"""

from __future__ import annotations

import random

from pytest_redisq.explore.schedule import ChoicePoint, EnabledStep, Step
from pytest_redisq.explore.schedulers.scheduler import random_below


class PctScheduler:
    """Random priorities that stay, and `depth` − 1 steps at which the running actor falls to the last place."""

    def __init__(self, rng: random.Random, *, depth: int, length: int) -> None:
        self._rng = rng
        self._priorities: dict[int, float] = {}
        self._changes = {random_below(rng, max(1, length)): -number for number in range(1, depth)}

    def choose(self, point: ChoicePoint) -> Step:
        """The first connection of the actor of highest priority."""
        for enabled in point.enabled_steps:
            self._priorities.setdefault(enabled.actor, self._rng.random())
        change = self._changes.get(point.position)
        if change is not None:
            self._priorities[self._first(point).actor] = change
        return self._first(point).step

    def _first(self, point: ChoicePoint) -> EnabledStep:
        return max(point.enabled_steps, key=lambda enabled: self._priorities[enabled.actor])
