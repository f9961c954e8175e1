"""Adds faults to the choices of another scheduler."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pytest_redisq.explore.schedule import ChoicePoint, Step
from pytest_redisq.explore.schedulers.scheduler import Scheduler, random_below


class FaultScheduler:
    """Lets another scheduler choose, and turns some of its steps into faults, at places drawn beforehand.

    If faults are only alternatives to commands, they happen too early and find nothing (measured).
    """

    def __init__(self, inner: Scheduler, rng: random.Random, *, places: Sequence[int]) -> None:
        self._inner = inner
        self._rng = rng
        self._places = set(places)
        self._seen = 0

    def choose(self, point: ChoicePoint) -> Step:
        """The inner choice, with a fault where one is due."""
        step = self._inner.choose(point)
        steps = [way for other in point.early for way in (other.step, *other.faulty())]
        for enabled in point.enabled_steps:
            if enabled.step == step:
                steps += [Step(step.actor, kind, step.connection) for kind in enabled.faults]
        if not steps:
            return step
        due = self._seen in self._places
        self._seen += 1
        return steps[random_below(self._rng, len(steps))] if due else step
