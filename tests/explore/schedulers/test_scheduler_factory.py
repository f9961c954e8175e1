"""scheduler_factory.py: the same seed gives the same choices everywhere, and each strategy covers what it should."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Generator
from typing import Any

import pytest

from pytest_redisq.explore.schedule import Schedule, StepKind
from pytest_redisq.explore.schedulers.deviation_plan import DeviationPlan
from pytest_redisq.explore.schedulers.plan_scheduler import PlanScheduler
from pytest_redisq.explore.schedulers.replay_scheduler import DivergedError, ReplayScheduler
from pytest_redisq.explore.schedulers.scheduler_factory import STRATEGIES, SchedulerFactory, Strategy
from tests.explore.toy import Toy

Command = tuple[Any, ...]

#: Of the schedules of a seed, by strategy. Another one means that old seeds no longer find what they found.
DIGESTS: dict[Strategy, str] = {
    "mix": "c31d3c36dc3f8ae7",
    "pos": "1238f3d9663fdcb4",
    "random": "d31f7d7270c35cb6",
    "urw": "36bb5cb58a1b5228",
    "pct": "233efaf6ef89db1e",
}


def drain() -> Generator[Command, Any, list[int]]:
    """The story's own loop, as a toy: look, take all that was seen."""
    seen: list[int] = []
    while (yield ("get", "jobs")):
        item = yield ("pop", "jobs")
        if item is not None:
            seen.append(item)
    return seen


def fill() -> Generator[Command, Any, None]:
    for item in range(3):
        yield ("push", "jobs", item)


def sampled(sampler: SchedulerFactory, runs: int, toy: Toy | None = None) -> list[str]:
    toy = toy or Toy([fill, drain, drain], (StepKind.KILL_BEFORE, StepKind.KILL_AFTER), sampler.max_faults)
    schedules = []
    for number in range(runs):
        run = toy.run(sampler.scheduler(number))
        sampler.learn(run.choices)
        schedules.append(str(run.schedule))
    return schedules


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_seed_gives_the_same_schedules_in_another_process(strategy: Strategy) -> None:
    """With any hash seed of the other process."""
    here = sampled(SchedulerFactory(seed=7, strategy=strategy, max_faults=2), 40)
    code = (
        "from tests.explore.schedulers.test_scheduler_factory import *;"
        f"print(' '.join(sampled(SchedulerFactory(seed=7, strategy={strategy!r}, max_faults=2), 40)))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "3"}
    )
    assert there.stdout.split() == here
    assert sampled(SchedulerFactory(seed=8, strategy=strategy, max_faults=2), 40) != here


@pytest.mark.parametrize(("strategy", "digest"), DIGESTS.items())
def test_a_seed_gives_the_same_schedules_on_every_machine_and_python(strategy: Strategy, digest: str) -> None:
    """Those that were written down here once."""
    schedules = " ".join(sampled(SchedulerFactory(seed=7, strategy=strategy, max_faults=2), 200))
    assert hashlib.sha256(schedules.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_reaches_many_schedules(strategy: Strategy) -> None:
    """Two hundred runs are not a few, over and over."""
    assert len(set(sampled(SchedulerFactory(seed=1, strategy=strategy), 200))) > 25


def test_faults_keep_to_their_budget_and_come_everywhere() -> None:
    """No execution has too many faults, some have none, and a fault strikes each command of the first actor."""
    toy = Toy([fill, drain], (StepKind.KILL_BEFORE, StepKind.KILL_AFTER), 2)
    schedules = [Schedule.parse(text) for text in sampled(SchedulerFactory(seed=1, max_faults=2), 400, toy)]
    counts = {schedule.faults for schedule in schedules}
    assert counts == {0, 1, 2}
    deaths = {
        (sum(before.actor == 0 for before in schedule[:at]), step.kind)
        for schedule in schedules
        for at, step in enumerate(schedule)
        if step.actor == 0 and step.kind is not StepKind.RUN
    }
    assert deaths == {(number, kind) for number in range(3) for kind in (StepKind.KILL_BEFORE, StepKind.KILL_AFTER)}


def write_in_turn() -> Generator[Command, Any, None]:
    for number in range(12):
        yield ("set", "x", number)


def read_twice() -> Generator[Command, Any, list[int]]:
    seen = []
    for _ in range(2):
        yield ("get", "y")
        seen.append((yield ("get", "x")))
    return seen


def test_urw_finds_what_a_random_walk_hardly_does() -> None:
    """A short actor that must act in the middle of a long one, twice: a random walk lets it end too soon."""
    toy = Toy([write_in_turn, read_twice])
    hits = dict.fromkeys(("urw", "random"), 0)
    for strategy in hits:
        sampler = SchedulerFactory(seed=1, strategy=strategy)
        for number in range(2_000):
            run = toy.run(sampler.scheduler(number))
            sampler.learn(run.choices)
            hits[strategy] += run.results[1] == [3, 8]
    assert hits["urw"] > 3 * hits["random"]


def test_a_schedule_is_followed_to_the_letter_then_run_on() -> None:
    """A prefix decides as far as it goes."""
    toy = Toy([fill, drain])
    assert str(toy.run(ReplayScheduler(Schedule.parse("ABAB"))).schedule).startswith("ABAB")


def test_a_schedule_that_cannot_be_followed_is_said_with_the_step() -> None:
    """The step, and what could have gone instead."""
    with pytest.raises(DivergedError, match="step 4 should be A, but only B can go next"):
        Toy([fill, drain]).run(ReplayScheduler(Schedule.parse("AAAA")))


def test_a_plan_says_only_what_deviates_from_running_on() -> None:
    """A run's plan, followed, is the run; an impossible deviation is left out."""
    toy = Toy([fill, drain])
    run = toy.run(ReplayScheduler(Schedule.parse("ABBA")))
    plan = DeviationPlan.of(run.choices)
    assert set(plan) == {1, 3}
    assert toy.run(PlanScheduler(plan)).schedule == run.schedule
    assert toy.run(PlanScheduler({0: Schedule.parse("Z")[0]})).schedule == toy.run(PlanScheduler({})).schedule
