"""exhaustive_scheduler.py: it skips and repeats nothing, checked by running every schedule of small programs."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_redisq.explore.equivalence import EnabledStepsChangedError, StepEffect, equivalence_key
from pytest_redisq.explore.footprint import Footprint
from pytest_redisq.explore.schedule import ChoicePoint, EnabledStep, Step, StepKind
from pytest_redisq.explore.schedulers.exhaustive_scheduler import ExhaustiveScheduler
from pytest_redisq.explore.schedulers.random_sampler import RandomSampler
from pytest_redisq.explore.schedulers.random_scheduler import RandomScheduler
from pytest_redisq.explore.schedulers.scheduler_factory import SchedulerFactory
from tests.explore.toy import Program, Run, Toy

Command = tuple[Any, ...]


class Everything:
    """Goes through the whole tree of choices, without any reduction: the reference."""

    def __init__(self) -> None:
        self._path: list[list[Step]] = []

    def choose(self, point: ChoicePoint) -> Step:
        if point.position == len(self._path):
            ways = [enabled.step for enabled in point.enabled_steps]
            ways += [Step(enabled.actor, kind) for enabled in point.enabled_steps for kind in enabled.faults]
            self._path.append(ways)
        return self._path[point.position][0]

    def advance(self, _last: StepEffect) -> bool:
        while self._path:
            self._path[-1].pop(0)
            if self._path[-1]:
                return True
            self._path.pop()
        return False


def all_runs(toy: Toy, search: Everything | ExhaustiveScheduler, limit: int = 200_000) -> Iterator[Run]:
    for _ in range(limit):
        run = toy.run(search)
        yield run
        if not search.advance(run.last):
            return
    raise AssertionError(f"more than {limit} runs")


def program(commands: Sequence[Command]) -> Program:
    """Does the commands one after the other, and gives the replies."""

    def steps() -> Generator[Command, Any, list[Any]]:
        seen = []
        for command in commands:
            seen.append((yield command))
        return seen

    return steps


def compare(toy: Toy) -> tuple[int, int]:
    """Every set of equivalent schedules is run, once. Returns how many there are, and of how many schedules."""
    reference = list(all_runs(toy, Everything()))
    search = ExhaustiveScheduler()
    reduced = list(all_runs(toy, search))
    assert {run.key for run in reduced} == {run.key for run in reference}
    orders = {equivalence_key(run.choices, run.last): run.key for run in reference}
    assert set(orders.values()) == {run.key for run in reference}
    assert len(orders) == len(set(orders.values()))
    assert {run.outcome for run in reduced} == {run.outcome for run in reference}
    assert len(reduced) - search.redundant == len({run.key for run in reference})
    return len(reduced), len(reference)


_KEYS = st.sampled_from(["x", "y", "z"])
_COMMANDS = st.one_of(
    st.tuples(st.just("get"), _KEYS),
    st.tuples(st.just("set"), _KEYS, st.integers(0, 3)),
)
_NAMES = st.sampled_from(["list-x", "list-y"])
_LISTS = st.one_of(
    st.tuples(st.just("push"), _NAMES, st.integers(0, 3)),
    st.tuples(st.just("pop"), _NAMES),
    st.tuples(st.just("bpop"), _NAMES),
    st.just(("sleep",)),
)


@given(st.lists(st.lists(_COMMANDS, max_size=3), min_size=2, max_size=3))
@settings(max_examples=25, deadline=None)
def test_every_order_that_matters_is_run_once(programs: list[list[Command]]) -> None:
    """Reads and writes of three keys by up to three actors."""
    compare(Toy([program(commands) for commands in programs]))


@given(st.lists(st.lists(_LISTS, max_size=3), min_size=2, max_size=3))
@settings(max_examples=60, deadline=None)
@example([[("sleep",), ("push", "list-x", 0)], [("sleep",), ("push", "list-x", 1)]])
def test_blocking_and_sleeping_actors_are_covered(programs: list[list[Command]]) -> None:
    """The same with lists, blocked pops, deadlocks and sleeps."""
    toy = Toy([program(commands) for commands in programs])
    reference = {run.outcome for run in all_runs(toy, Everything())}
    assert {run.outcome for run in all_runs(toy, ExhaustiveScheduler())} == reference


@given(st.lists(st.lists(st.one_of(_COMMANDS, _LISTS), max_size=2), min_size=2, max_size=3), st.integers(1, 2))
@settings(max_examples=40, deadline=None)
def test_every_placement_of_faults_is_covered(programs: list[list[Command]], max_faults: int) -> None:
    """The same with an actor killed before or after any command, at most once or twice."""
    toy = Toy([program(commands) for commands in programs], (StepKind.KILL_BEFORE, StepKind.KILL_AFTER), max_faults)
    reference = {run.outcome for run in all_runs(toy, Everything())}
    assert {run.outcome for run in all_runs(toy, ExhaustiveScheduler())} == reference


@given(st.lists(st.lists(st.one_of(_COMMANDS, _LISTS), max_size=2), min_size=1, max_size=3), st.integers(0, 2))
@example([[], []], 1)
@settings(max_examples=40, deadline=None)
def test_by_lot_every_schedule_comes_once_until_none_is_left(programs: list[list[Command]], max_faults: int) -> None:
    """For any choices of the guide; and the sampler knows when the last one is done."""
    toy = Toy([program(commands) for commands in programs], (StepKind.KILL_BEFORE, StepKind.KILL_AFTER), max_faults)
    reference = {run.schedule for run in all_runs(toy, Everything())}
    random_sampler, sampler, drawn = RandomSampler(), SchedulerFactory(seed=0, max_faults=max_faults), []
    while not random_sampler.exhausted:
        run = toy.run(random_sampler.begin(sampler.scheduler(len(drawn))))
        random_sampler.end()
        sampler.learn(run.choices)
        drawn.append(run.schedule)
        assert len(drawn) <= len(reference)
    assert len(drawn) == len(reference)
    assert set(drawn) == reference


def test_a_draw_by_lot_that_goes_its_own_way_is_reported() -> None:
    one, other = (EnabledStep(actor=actor, footprint=Footprint(writes=frozenset([b"x"]))) for actor in (0, 1))
    random_sampler = RandomSampler()
    random_sampler.begin(RandomScheduler(random.Random(0))).choose(ChoicePoint(position=0, enabled_steps=(one, other)))
    random_sampler.end()
    with pytest.raises(
        EnabledStepsChangedError, match="after the same 0 steps B can go next, but it was A, B the first time"
    ):
        random_sampler.begin(RandomScheduler(random.Random(0))).choose(ChoicePoint(position=0, enabled_steps=(other,)))


def test_independent_actors_need_one_run() -> None:
    """Three actors on keys of their own: 1680 schedules, all the same."""
    toy = Toy([program([("set", key, 1), ("get", key), ("set", key, 2)]) for key in "xyz"])
    assert compare(toy) == (1, 1680)


def test_readers_do_not_conflict_with_each_other() -> None:
    """Two readers and one writer of a key: each reader sees the value or not, whatever the other one does."""
    toy = Toy([program([("get", "x")]), program([("get", "x")]), program([("set", "x", 1)])])
    assert compare(toy) == (4, 6)


def test_a_program_that_goes_its_own_way_is_reported() -> None:
    """The same choices with another outcome are uncontrolled nondeterminism, said with the place."""
    enabled_steps = (EnabledStep(actor=0, footprint=Footprint(writes=frozenset([b"x"]))),)
    other = (EnabledStep(actor=1, footprint=Footprint(writes=frozenset([b"x"]))),)
    search = ExhaustiveScheduler()
    both = (*enabled_steps, *other)
    search.choose(ChoicePoint(position=0, enabled_steps=both))
    search.choose(ChoicePoint(position=1, enabled_steps=other, previous=0, effect=enabled_steps[0].footprint))
    assert search.advance(StepEffect(enabled_steps[0].footprint))
    search.choose(ChoicePoint(position=0, enabled_steps=both))
    with pytest.raises(
        EnabledStepsChangedError, match="after the same 0 steps B can go next, but it was A, B the first time"
    ):
        search.choose(ChoicePoint(position=0, enabled_steps=other))
