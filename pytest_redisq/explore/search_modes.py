"""The two ways to search the schedules: by samples until the budget is spent, or exhaustively."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pytest_redisq.explore.equivalence import StepEffect
from pytest_redisq.explore.execution import Execution
from pytest_redisq.explore.exploration import Exploration
from pytest_redisq.explore.schedule import Schedule
from pytest_redisq.explore.schedulers.exhaustive_scheduler import ExhaustiveScheduler
from pytest_redisq.explore.schedulers.plan_scheduler import PlanScheduler
from pytest_redisq.explore.schedulers.random_sampler import RandomSampler
from pytest_redisq.explore.schedulers.scheduler import Scheduler
from pytest_redisq.explore.schedulers.scheduler_factory import SchedulerFactory


@dataclass(slots=True)
class Sampling:
    """Samples schedules until the budget is spent."""

    sampler: SchedulerFactory
    result: Exploration
    number: int = 0
    redundant: int = 0

    def next(self) -> Scheduler | None:
        self.number += 1
        return self.sampler.scheduler(self.number - 1)

    def learn(self, execution: Execution) -> None:
        self.sampler.learn(execution.choices, execution.events)
        self.result.schedules += 1


@dataclass(slots=True)
class Exhausting:
    """Runs all schedules of the tree, and then a sample of all schedules, which must be equivalent to those."""

    sampler: SchedulerFactory
    checks: int
    result: Exploration
    tree: ExhaustiveScheduler = field(default_factory=ExhaustiveScheduler)
    random_sampler: RandomSampler = field(default_factory=RandomSampler)
    last: StepEffect | None = None
    now: Literal["given", "tree", "sample"] = "given"
    drawn: int = 0
    run_schedules: set[Schedule] = field(default_factory=set)
    orders: set[int] = field(default_factory=set)

    @property
    def redundant(self) -> int:
        return self.tree.redundant

    def next(self) -> Scheduler | None:
        if self.now != "sample" and (self.last is None or self.tree.advance(self.last)):
            self.now = "tree"
            return self.tree
        self.now = "sample"
        self.result.complete = not self.result.missed
        self.result.checked_all = self.random_sampler.exhausted
        if self.drawn >= self.checks or self.random_sampler.exhausted:
            return None
        self.drawn += 1
        return self.random_sampler.begin(self.sampler.scheduler(self.drawn))

    def learn(self, execution: Execution) -> None:
        self.sampler.learn(execution.choices, execution.events)
        order = hash(execution.order)
        if self.now == "tree":
            self.last = execution.last
            self.orders.add(order)
        elif self.now == "sample":
            self.random_sampler.end()
            if execution.schedule not in self.run_schedules:
                self.result.checked += 1
                self.result.missed += order not in self.orders
        self.result.schedules += self.now != "sample"
        self.run_schedules.add(execution.schedule)


SearchMode: TypeAlias = "Sampling | Exhausting"


def schedulers_of(first: Iterable[Schedule], search: SearchMode) -> Iterator[Scheduler]:
    """The schedulers of an exploration: those of the given schedules first."""
    for schedule in first:
        yield PlanScheduler(dict(enumerate(schedule)))
    while (scheduler := search.next()) is not None:
        yield scheduler


def count_orders(result: Exploration, execution: Execution) -> None:
    """Add the ordered pairs of conflicting commands of an execution to the result."""
    points = [point.enabled_step(step) for point, step in execution.choices]
    for at, (one, two) in enumerate(zip(execution.events, execution.events[1:], strict=False)):
        left, right = points[at], points[at + 1]
        if one.step.actor != two.step.actor and left and right and left.footprint.conflicts(right.footprint):
            result.orders.add((*one.shape, *two.shape))
