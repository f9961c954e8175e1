"""A random walk: each step that can be chosen is as likely as every other."""

from __future__ import annotations

import random

from pytest_redisq.explore.schedule import ChoicePoint, Step
from pytest_redisq.explore.schedulers.scheduler import random_below


class RandomScheduler:
    """Every enabled step is as likely as every other."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def choose(self, point: ChoicePoint) -> Step:
        """Any enabled step."""
        return point.enabled_steps[random_below(self._rng, len(point.enabled_steps))].step
