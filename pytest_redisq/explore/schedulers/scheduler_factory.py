"""Makes the schedulers of a sampling exploration, one per execution, from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pytest_redisq.explore.schedule import ChoicePoint, Step
from pytest_redisq.explore.schedulers.fault_scheduler import FaultScheduler
from pytest_redisq.explore.schedulers.pct_scheduler import PctScheduler
from pytest_redisq.explore.schedulers.plan_scheduler import PlanScheduler
from pytest_redisq.explore.schedulers.pos_scheduler import PosScheduler
from pytest_redisq.explore.schedulers.random_scheduler import RandomScheduler
from pytest_redisq.explore.schedulers.scheduler import Scheduler, random_below

Strategy: TypeAlias = Literal["mix", "pos", "random", "pct"]


STRATEGIES: tuple[Strategy, ...] = ("mix", "pos", "random", "pct")


#: How many of eight executions have no faults even if faults are allowed, to find plain races as well.
_FAULTLESS_OF_8 = 2


@dataclass(slots=True, kw_only=True)
class SchedulerFactory:
    """Makes a scheduler for each execution of a sampling search.

    * `seed`: the same seed gives the same schedulers.
    * `strategy`, `depth`: as for `explore`.
    * `max_faults`: how many faults an execution may have.
    * `longest`, `fault_places`: learnt: the most steps of an execution, and the most steps that a fault could strike.
    """

    seed: int | str
    strategy: Strategy = "mix"
    max_faults: int = 0
    depth: int = 3
    longest: int = 1
    fault_places: int = 0

    def scheduler(self, number: int) -> Scheduler:
        """The scheduler of execution `number`, from 0. The first one makes the default choices, to learn the shape."""
        rng = random.Random(f"{self.seed}:{number}")
        inner = self._plain(rng, number)
        if not self.max_faults or not self.fault_places or number % 8 < _FAULTLESS_OF_8:
            return inner
        count = 1 + random_below(rng, self.max_faults)
        return FaultScheduler(inner, rng, places=[random_below(rng, self.fault_places) for _ in range(count)])

    def _plain(self, rng: random.Random, number: int) -> Scheduler:
        if number == 0:
            return PlanScheduler({})
        match self.strategy:
            case "random":
                return RandomScheduler(rng)
            case "pos":
                return PosScheduler(rng)
            case "pct":
                return PctScheduler(rng, depth=self.depth, length=self.longest)
            case "mix":
                return PosScheduler(rng) if number % 2 else RandomScheduler(rng)

    def learn(self, choices: Sequence[tuple[ChoicePoint, Step]]) -> None:
        """Take a run's shape into account."""
        self.longest = max(self.longest, len(choices))
        places = sum(
            bool(point.early) or any(enabled.faults for enabled in point.enabled_steps) for point, _ in choices
        )
        self.fault_places = max(self.fault_places, places)
