"""How the next command is chosen: by chance in three ways, or after a given schedule.

Law: all chance comes from `random.Random` seeded by a string and used only through `random()`, whose sequence is the
same on every platform and Python version; so the same seed gives the same choices for the same commands.

POS: X. Yuan, J. Yang, R. Gu, "Partial Order Aware Concurrency Sampling", CAV 2018.
PCT: S. Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from pytest_redisq.explore.schedule import ChoicePoint, EnabledStep, Schedule, Step, StepKind, run_on

Strategy: TypeAlias = Literal["mix", "pos", "random", "pct"]
STRATEGIES: tuple[Strategy, ...] = ("mix", "pos", "random", "pct")
#: Of eight runs with faults allowed, how many go without: the plain races are looked for as well.
_FAULTLESS_OF_8 = 2


class Scheduler(Protocol):
    """Decides one run."""

    def choose(self, point: ChoicePoint) -> Step:
        """One of the ways to choose one of the point's options."""
        ...


def _below(rng: random.Random, bound: int) -> int:
    return int(rng.random() * bound)


class RandomScheduler:
    """Every option is as likely as every other."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def choose(self, point: ChoicePoint) -> Step:
        """Any option."""
        return point.enabled_steps[_below(self._rng, len(point.enabled_steps))].step


class PosScheduler:
    """Partial order sampling: the highest of random priorities goes; those that it conflicts with draw a new one."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._priorities: dict[tuple[int, int], float] = {}

    def choose(self, point: ChoicePoint) -> Step:
        """The option of highest priority."""
        priorities = self._priorities
        for enabled in point.enabled_steps:
            if (enabled.actor, enabled.connection) not in priorities:
                priorities[enabled.actor, enabled.connection] = self._rng.random()
        chosen = max(point.enabled_steps, key=lambda enabled: priorities[enabled.actor, enabled.connection])
        for enabled in point.enabled_steps:
            if enabled is chosen or enabled.footprint.conflicts(chosen.footprint):
                del priorities[enabled.actor, enabled.connection]
        return chosen.step


class PctScheduler:
    """Probabilistic concurrency testing: random priorities that stay, and `depth` − 1 steps at which the runner falls
    to the last place."""

    def __init__(self, rng: random.Random, *, depth: int, length: int) -> None:
        self._rng = rng
        self._priorities: dict[int, float] = {}
        self._changes = {_below(rng, max(1, length)): -number for number in range(1, depth)}

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


class FaultScheduler:
    """Lets another chooser choose, and makes a fault of some of its steps: budgeted, and equally likely at each step.

    As mere peers of the commands, faults fire too early and find nothing (measured); hence places fixed beforehand.
    """

    def __init__(self, inner: Scheduler, rng: random.Random, *, places: Sequence[int]) -> None:
        self._inner = inner
        self._rng = rng
        self._places = set(places)
        self._seen = 0

    def choose(self, point: ChoicePoint) -> Step:
        """The inner choice, marked with a fault where it is time for one."""
        step = self._inner.choose(point)
        steps = [other.step for other in point.early]
        for enabled in point.enabled_steps:
            if enabled.step == step:
                steps += [Step(step.actor, kind, step.connection) for kind in enabled.faults]
        if not steps:
            return step
        due = self._seen in self._places
        self._seen += 1
        return steps[_below(self._rng, len(steps))] if due else step


#: A place in a plan: a position in the run, or (for a fault) an actor and which of its commands, from 0.
PlanPosition: TypeAlias = int | tuple[int, int]


class DeviationPlan(dict[PlanPosition, Step]):
    """A schedule as its sparse deviations from running on: what a shrinker works on.

    Switches stand at positions of the run. Faults stand with the command that they meet, so that they stay with it
    while switches come and go.
    """

    __slots__ = ()

    @classmethod
    def of(cls, choices: Sequence[tuple[ChoicePoint, Step]]) -> DeviationPlan:
        """The deviations of a run."""
        plan = cls()
        for (point, step), number in zip(choices, command_numbers(choices), strict=True):
            plain = step._replace(kind=StepKind.RUN) if point.sends(step) else step
            if plain != run_on(point):
                plan[point.position] = plain
            if plain != step:
                plan[step.actor, number] = step
        return plan


def command_numbers(choices: Sequence[tuple[ChoicePoint, Step]]) -> list[int]:
    """For each step, how many commands its actor has sent before."""
    counts: dict[int, int] = {}
    numbers = []
    for point, step in choices:
        numbers.append(counts.setdefault(step.actor, 0))
        counts[step.actor] += point.sends(step)
    return numbers


class PlanScheduler:
    """Runs on, but for the plan's deviations; one that is not possible any more is left out."""

    def __init__(self, plan: Mapping[PlanPosition, Step]) -> None:
        self._plan = plan
        self._counts: dict[int, int] = {}

    def choose(self, point: ChoicePoint) -> Step:
        """The planned step if possible, else the default; with the fault that is planned for its command."""
        step = self._plan.get(point.position)
        if step is None or not point.enabled_step(step):
            step = run_on(point)
        if not point.sends(step):
            return step
        number = self._counts.get(step.actor, 0)
        self._counts[step.actor] = number + 1
        fault = self._plan.get((step.actor, number))
        if fault is not None:
            marked = step._replace(kind=fault.kind)
            return marked if point.enabled_step(marked) else step
        return step


class DivergedError(Exception):
    """The schedule asks for a step that cannot be chosen: the run went another way than when it was recorded."""

    def __init__(self, step: Step, point: ChoicePoint) -> None:
        enabled_steps = ", ".join(str(enabled.step) for enabled in point.enabled_steps)
        super().__init__(f"step {point.position + 1} should be {step}, but only {enabled_steps} can go next")
        self.step = step
        self.position = point.position


class ReplayScheduler:
    """Replays a schedule to the letter, then runs on."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def choose(self, point: ChoicePoint) -> Step:
        """The schedule's step.

        Raises `DivergedError` where it is not possible.
        """
        if point.position >= len(self._schedule):
            return run_on(point)
        step = self._schedule[point.position]
        if not point.enabled_step(step):
            raise DivergedError(step, point)
        return step


@dataclass(slots=True, kw_only=True)
class SchedulerFactory:
    """Draws a chooser for each run: what `explore` does unless it is exhaustive.

    `longest` and `fault_places` are learnt from the runs so far: the most steps of a run, and the most steps at which
    a fault was possible.
    """

    seed: int | str
    strategy: Strategy = "mix"
    max_faults: int = 0
    depth: int = 3
    longest: int = 1
    fault_places: int = 0

    def scheduler(self, number: int) -> Scheduler:
        """The chooser of the `number`-th run, from 0; the very first runs on, so that the shape is known."""
        rng = random.Random(f"{self.seed}:{number}")
        inner = self._plain(rng, number)
        if not self.max_faults or not self.fault_places or number % 8 < _FAULTLESS_OF_8:
            return inner
        count = 1 + _below(rng, self.max_faults)
        return FaultScheduler(inner, rng, places=[_below(rng, self.fault_places) for _ in range(count)])

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
