"""Adds faults to the choices of another scheduler."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

from pytest_redisq.explore.schedule import ChoicePoint, Step
from pytest_redisq.explore.schedulers.scheduler import Scheduler, random_below

#: An actor, and how many steps it has taken before.
StepNumber: TypeAlias = tuple[int, int]


class FaultScheduler:
    """Lets another scheduler choose, and turns some of its steps into faults, at places drawn beforehand.

    A fault strikes at its place, or at the actor's next step that can fail. If faults were only alternatives to
    commands, they would happen too early and find nothing (measured).
    """

    def __init__(self, inner: Scheduler, rng: random.Random, *, places: Iterable[StepNumber]) -> None:
        self._inner = inner
        self._rng = rng
        self._drawn = tuple(places)
        self._places = list(self._drawn)
        self._taken: Counter[int] = Counter()

    def choose(self, point: ChoicePoint) -> Step:
        """The inner choice, with a fault where one is due."""
        if point.position == 0:  # again from the start, where the clients had to load their scripts
            self._places = list(self._drawn)
            self._taken.clear()
        step = self._inner.choose(point)
        due = [place for place in self._places if place[0] == step.actor and place[1] <= self._taken[step.actor]]
        steps = ways_to_fail(point, step) if due else []
        chosen = step
        if steps:
            self._places.remove(due[0])
            chosen = steps[random_below(self._rng, len(steps))]
        self._taken[chosen.actor] += 1
        return chosen


def ways_to_fail(point: ChoicePoint, step: Step) -> list[Step]:
    """The faults that can strike in place of `step`: at its command, or at an actor that waits."""
    steps = [way for other in point.early for way in (other.step, *other.faulty())]
    for enabled in point.enabled_steps:
        if enabled.step == step:
            steps += [Step(step.actor, kind, step.connection) for kind in enabled.faults]
    return steps
