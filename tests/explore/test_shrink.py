"""shrink.py: the smallest schedule does not depend on the failing schedule that is found first."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_redisq.explore.schedule import ChoicePoint, Schedule, Step, StepKind
from pytest_redisq.explore.schedulers.deviation_plan import DeviationPlan
from pytest_redisq.explore.schedulers.plan_scheduler import PlanScheduler
from pytest_redisq.explore.schedulers.scheduler_factory import SchedulerFactory
from pytest_redisq.explore.shrink import Shrinker, size
from tests.explore.toy import Run, Toy

Command = tuple[Any, ...]


def add_one() -> Generator[Command, Any, None]:
    value = (yield ("get", "n")) or 0
    yield ("get", "other")
    yield ("set", "n", value + 1)


def noise() -> Generator[Command, Any, None]:
    for _ in range(3):
        yield ("get", "n")


def take() -> Generator[Command, Any, None]:
    yield ("push", "jobs", 1)
    item = yield ("pop", "jobs")
    yield ("get", "other")
    yield ("push", "done", item)


def update_lost(run: Run) -> bool:
    return run.stored["n"] < 2


def job_lost(run: Run) -> bool:
    return not run.stored.get("jobs") and not run.stored.get("done") and "jobs" in run.stored


RACE = Toy([noise, add_one, noise, add_one])
KILL = Toy([noise, take, noise], (StepKind.KILL_BEFORE, StepKind.KILL_AFTER), 2)


def shrunk(toy: Toy, fails: Any, seed: int) -> Run:
    sampler = SchedulerFactory(seed=seed, max_faults=toy.max_faults)
    number = 0
    while not fails(found := toy.run(sampler.scheduler(number))):
        sampler.learn(found.choices)
        number += 1
    tried: list[DeviationPlan] = []

    def attempt(plan: DeviationPlan) -> Run | None:
        tried.append(plan)
        run = toy.run(PlanScheduler(plan))
        return run if fails(run) else None

    smallest = Shrinker(attempt).shrink(found)
    assert size(smallest) <= size(found)
    assert len(tried) <= 400
    return toy.run(PlanScheduler(DeviationPlan.of(smallest.choices)))


@pytest.mark.parametrize("seed", range(20))
def test_a_race_is_shrunk_to_one_preemption(seed: int) -> None:
    """Among bystanders: one reads, the other adds wholly, the one writes; the bystanders run by themselves."""
    run = shrunk(RACE, update_lost, seed)
    assert str(run.schedule) == "AAABBDDDBCCC"


@pytest.mark.parametrize("seed", range(20))
def test_superfluous_faults_go(seed: int) -> None:
    """One death is enough: of the pop."""
    run = shrunk(KILL, job_lost, seed)
    assert str(run.schedule) == "AAABBxCCC"


def test_what_cannot_be_smaller_stays() -> None:
    """A failure that only its own schedule shows comes out as it went in."""
    found = RACE.run(SchedulerFactory(seed=3).scheduler(1))
    assert Shrinker[Run](lambda _plan: None).shrink(found) is found


def test_tries_are_bounded() -> None:
    """No more runs than allowed."""
    count = []
    shrinker = Shrinker[Run](lambda plan: count.append(plan), tries=5)
    shrinker.shrink(RACE.run(SchedulerFactory(seed=3).scheduler(1)))
    assert len(count) == 5
    assert shrinker.cut_short


def test_pairs_are_tried_only_where_all_of_them_can_be() -> None:
    """Of a longer run, some hundred of many thousand would take all tries, and find nothing but by luck."""
    found = Toy([noise, add_one] * 3).run(SchedulerFactory(seed=3).scheduler(1))
    assert len(DeviationPlan.of(found.choices)) >= 2
    tried: list[DeviationPlan] = []
    Shrinker[Run](lambda plan: tried.append(plan), tries=400).shrink(found)
    assert 0 < len(tried) < 400


def test_polls_do_not_count() -> None:
    """An execution is smaller than another one with fewer steps, if fewer steps of it are shown."""

    @dataclass
    class Found:
        choices: list[tuple[ChoicePoint, Step]]
        shown: Schedule

    polls = RACE.run(SchedulerFactory(seed=3).scheduler(0))
    assert size(Found(polls.choices, Schedule(polls.schedule[:3]))) < size(Found(polls.choices[:9], polls.schedule))
