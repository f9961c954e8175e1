"""Makes the schedulers of a sampling exploration, one per execution, from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pytest_redisq.explore.schedule import ChoicePoint, Step
from pytest_redisq.explore.schedulers.fault_places import FaultPlaces
from pytest_redisq.explore.schedulers.fault_scheduler import FaultScheduler
from pytest_redisq.explore.schedulers.pct_scheduler import PctScheduler
from pytest_redisq.explore.schedulers.plan_scheduler import PlanScheduler
from pytest_redisq.explore.schedulers.pos_scheduler import PosScheduler
from pytest_redisq.explore.schedulers.random_scheduler import RandomScheduler
from pytest_redisq.explore.schedulers.scheduler import Scheduler, random_below
from pytest_redisq.explore.schedulers.urw_scheduler import UrwScheduler
from pytest_redisq.explore.trace import ExecutedStep

Strategy: TypeAlias = Literal["mix", "pos", "random", "urw", "pct"]


STRATEGIES: tuple[Strategy, ...] = ("mix", "pos", "random", "urw", "pct")


#: How many of eight executions have no faults even if faults are allowed, to find plain races as well.
_FAULTLESS_OF_8 = 2


@dataclass(slots=True, kw_only=True)
class SchedulerFactory:
    """Makes a scheduler for each execution of a sampling search.

    * `seed`: the same seed gives the same schedulers.
    * `strategy`, `depth`: as for `explore`.
    * `max_faults`: how many faults an execution may have.
    * `longest`, `lengths`, `fault_places`: learnt: the most steps of an execution, the steps of each actor in the last
      one without faults, and where faults could strike.
    """

    seed: int | str
    strategy: Strategy = "mix"
    max_faults: int = 0
    depth: int = 3
    longest: int = 1
    lengths: Counter[int] = field(default_factory=Counter)
    fault_places: FaultPlaces = field(default_factory=FaultPlaces)

    def scheduler(self, number: int) -> Scheduler:
        """The scheduler of execution `number`, from 0. The first one makes the default choices, to learn the shape."""
        rng = random.Random(f"{self.seed}:{number}")
        inner = self._plain(rng, number)
        if not self.max_faults or not self.fault_places.every or number % 8 < _FAULTLESS_OF_8:
            return inner
        count = 1 + random_below(rng, self.max_faults)
        return FaultScheduler(inner, rng, places=[self.fault_places.draw(rng) for _ in range(count)])

    def _plain(self, rng: random.Random, number: int) -> Scheduler:
        if number == 0:
            return PlanScheduler({})
        match self.strategy:
            case "random":
                return RandomScheduler(rng)
            case "pos":
                return PosScheduler(rng)
            case "urw":
                return self._urw(rng)
            case "pct":
                return PctScheduler(rng, depth=self.depth, length=self.longest)
            case "mix":
                return (RandomScheduler(rng), PosScheduler(rng), self._urw(rng))[number % 3]

    def _urw(self, rng: random.Random) -> UrwScheduler:
        return UrwScheduler(rng, self.lengths)

    def learn(self, choices: Sequence[tuple[ChoicePoint, Step]], events: Sequence[ExecutedStep] = ()) -> None:
        """Take a run's shape into account. `events`: what its steps did, as far as that is known."""
        self.longest = max(self.longest, len(choices))
        if not any(point.costs(step) for point, step in choices):
            self.lengths = Counter(step.actor for _, step in choices)
        if self.max_faults:
            self.fault_places.learn(choices, events)
