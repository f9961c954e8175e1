"""Runs a scenario under many schedules until one fails or the budget is spent, then shrinks what failed."""

from __future__ import annotations

import contextlib
import inspect
import random
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import redis
import redis.asyncio

from pytest_redisq import interrupts
from pytest_redisq.errors import DeliveryError, RedisqError, ScheduleError
from pytest_redisq.explore.actor_threads import silent_kills
from pytest_redisq.explore.exhaustive_scheduler import (
    EnabledStepsChangedError,
    EquivalenceKey,
    ExhaustiveScheduler,
    RandomSampler,
    StepEffect,
    equivalence_key,
)
from pytest_redisq.explore.picture import page, svg
from pytest_redisq.explore.quiescence import PATIENCE_SECONDS
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import OF_THE_SERVER, ChoicePoint, Schedule, Step, StepKind, letter, parse_faults
from pytest_redisq.explore.schedulers_all import (
    STRATEGIES,
    DeviationPlan,
    DivergedError,
    PlanScheduler,
    ReplayScheduler,
    Scheduler,
    SchedulerFactory,
    Strategy,
)
from pytest_redisq.explore.shrink import Shrinker
from pytest_redisq.explore.trace import ExecutedStep, first_difference, table
from pytest_redisq.explore.virtual_time import virtual_time
from pytest_redisq.explore.world import ExecutionLimits, World

Scenario: TypeAlias = Callable[[World], object]
#: Schedules run unless another budget is given.
SCHEDULES = 500
#: Schedules that are run to see whether an exhaustive search has skipped only what it may: all, if there are no more.
CHECKS = 300
#: Steps after which a run is said not to end.
MAX_STEPS = 2_000


class NondeterminismError(RedisqError):
    """The same schedule went two ways: something that the schedule does not control decides.

    `scripts_missing`: the server did not know a script of the scenario, which the clients then had to send.
    """

    def __init__(self, text: str, *, scripts_missing: bool = False) -> None:
        super().__init__(text)
        self.scripts_missing = scripts_missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run: what was chosen, what happened, and the exception that ended it, if any."""

    choices: tuple[tuple[ChoicePoint, Step], ...]
    events: tuple[ExecutedStep, ...]
    names: tuple[str, ...]
    last: StepEffect
    error: BaseException | None = None

    @property
    def schedule(self) -> Schedule:
        """The choices as a schedule."""
        return Schedule(step for _, step in self.choices)

    @property
    def order(self) -> EquivalenceKey:
        """What it has in common with the runs that differ from it in nothing that matters."""
        return equivalence_key(self.choices, self.last)

    @property
    def kind(self) -> tuple[str, str]:
        """What makes two failures the same: the type of the exception, and the line of the scenario that it left."""
        if self.error is None:
            return "", ""
        frames = traceback.extract_tb(self.error.__traceback__)
        outside = [frame for frame in frames if "pytest_redisq" not in frame.filename]
        return type(self.error).__name__, f"{outside[0].filename}:{outside[0].lineno}" if outside else ""

    @property
    def at_fault(self) -> frozenset[bytes]:
        """The bodies of the messages that the failure is about, where it is one of a contract."""
        return self.error.bodies if isinstance(self.error, DeliveryError) else frozenset()

    def table(self) -> str:
        """The run for people: a lane per actor, a row per step, a point where a message at fault is handled."""
        if not self.events:
            return "(no command was sent)"
        return table(self.events, names=self.names, at_fault=self.at_fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The shortest failing run that was found, and the schedule that was found first."""

    execution: Execution
    found: Schedule
    number: int

    @property
    def schedule(self) -> Schedule:
        """To be replayed."""
        return self.execution.schedule

    @property
    def error(self) -> BaseException:
        """What the scenario raised."""
        assert self.execution.error
        return self.execution.error

    def record(self) -> dict[str, Any]:
        """The failure as JSON can hold it."""
        return {
            "schedule": str(self.schedule),
            "found": str(self.found),
            "number": self.number,
            "error": type(self.error).__name__,
            "message": str(self.error),
            "actors": {letter(at): name for at, name in enumerate(self.execution.names)},
            "steps": [
                {**event.record(), "at_fault": event.mentions(self.execution.at_fault)}
                for event in self.execution.events
            ],
        }

    def page(self) -> str:
        """The failure as a picture: a page of HTML that needs nothing else."""
        said = f"{type(self.error).__name__}: {self.error}"
        drawing = svg(self.execution.events, names=self.execution.names, at_fault=self.execution.at_fault)
        return page(self._title(), said, f'redisq.replay(scenario, "{self.schedule}")', drawing)

    def explain(self) -> str:
        """The failure for people: what went wrong, the schedule as a table, and the line that replays it."""
        error = self.error
        name = type(error).__name__
        said = str(error).strip() or "(no message)"
        at_fault = ["● handles a message at fault"] if self.execution.at_fault else []
        return "\n".join(
            [
                f"{self._title()}:",
                "",
                self.execution.table(),
                *at_fault,
                "",
                f"{name}: {said}",
                "",
                f'replay: redisq.replay(scenario, "{self.schedule}")',
            ]
        )

    def _title(self) -> str:
        faults = sum(point.costs(step) for point, step in self.execution.choices)
        counts = {"step": len(self.schedule), "switch": self.schedule.switches, "fault": faults}
        said = ", ".join(f"{count} {noun if count == 1 else _PLURALS[noun]}" for noun, count in counts.items())
        return f"schedule {self.number + 1} fails; the shortest like it has {said}"


_PLURALS = {"step": "steps", "switch": "switches", "fault": "faults"}


@dataclass(slots=True, kw_only=True)
class Exploration:
    """What came of exploring: how many schedules were run, whether they are all there are, and the failure if any."""

    seed: int | str
    schedules: int = 0
    redundant: int = 0
    complete: bool = False
    #: Schedules that an exhaustive search had skipped and that were run after all; whether those are all that it had
    #: skipped, or were drawn by lot; and how many of them differ from all that were run in something that may matter.
    checked: int = 0
    checked_all: bool = False
    missed: int = 0
    seconds: float = 0.0
    failure: Failure | None = None
    #: Where the failure is kept as a picture; None: nowhere.
    picture: Path | None = None
    #: Pairs of conflicting commands, in the order in which they went, that were seen: how much has been covered.
    orders: set[tuple[Step, bytes, Step, bytes]] = field(default_factory=set)

    def __str__(self) -> str:
        if self.failure:
            return self.failure.explain()
        return f"{self._holds()} ({len(self.orders)} orders of conflicting commands seen, {self.seconds:.1f} s)"

    def _holds(self) -> str:
        """The statement: "412 schedules, 0 equivalent ones skipped wrongly (checked on all 87), all hold".

        Or "(checked on 87, by lot)", where there are more.
        """
        if not self.complete and not self.missed:
            return f"{self.schedules} schedules hold"
        on = f"all {self.checked}" if self.checked_all else f"{self.checked}, by lot"
        skipped = f"{self.missed} equivalent ones skipped wrongly (checked on {on}), " if self.checked else ""
        return f"{self.schedules} schedules, {skipped}{'all hold' if self.complete else 'and all that were run hold'}"

    def verify(self) -> Exploration:
        """Itself, if no schedule failed.

        Raises `ScheduleError`, from what the scenario raised.
        """
        __tracebackhide__ = True
        if self.failure:
            said, schedule = self.failure.explain(), str(self.failure.schedule)
            raise ScheduleError(said, schedule=schedule, picture=self.picture) from self.failure.error
        return self


def explore(
    scenario: Scenario,
    *,
    url: str,
    clean: Callable[[], None] | None = None,
    client: Callable[[str], redis.Redis] = redis.Redis.from_url,
    async_client: Callable[[str], redis.asyncio.Redis] = redis.asyncio.Redis.from_url,
    schedules: int | None = None,
    seconds: float | None = None,
    seed: int | str = 0,
    faults: str | Iterable[str] = (),
    max_faults: int = 1,
    exhaustive: bool = False,
    checks: int = CHECKS,
    strategy: Strategy = "mix",
    depth: int = 3,
    max_steps: int = MAX_STEPS,
    patience_seconds: float = PATIENCE_SECONDS,
    first: Iterable[Schedule] = (),
    progress: Callable[[Exploration], None] | None = None,
) -> Exploration:
    """Run `scenario(world)` under many schedules, each on an empty database, and shrink the first failure.

    `url` leads to the server and a database that is ours alone, emptied by `clean` (None: FLUSHDB) before each run.
    `client` makes the clients that actors and `world.redis` get, from a URL, `async_client` those of coroutines.
    The budget is `schedules` or `seconds`, whichever is spent first; `exhaustive` without either runs all schedules
    there are, less those that differ only in the order of commands that do not conflict; then so many as `checks`
    out of all there are, drawn by lot where those are more, to see that it left out no others: where actors share
    something beside Redis, say. At most `max_faults` of `faults` (names, see `schedule.FAULTS`) happen in one run.
    `first` are schedules to try before all others. `progress` is called after every run. An actor that does nothing
    for `patience_seconds` ends the exploration; six times as long, if it computes.

    Raises `NondeterminismError` where a schedule cannot be repeated, `StuckError` and `EndlessError` where a run does
    not end; `ValueError` for arguments that make no sense, `TypeError` for what is no scenario.
    """
    __tracebackhide__ = True
    _check_scenario(scenario)
    if strategy not in STRATEGIES:
        raise ValueError(f"no such strategy: {strategy!r}; there are {', '.join(STRATEGIES)}")
    for name, number, least in (("schedules", schedules, 1), ("max_faults", max_faults, 0), ("depth", depth, 1)):
        if number is not None and number < least:
            raise ValueError(f"{name}={number!r} is to be at least {least}")
    allowed = parse_faults(faults)
    budget = max_faults if allowed else 0
    limit = schedules if schedules is not None else (None if exhaustive or seconds is not None else SCHEDULES)
    limits = ExecutionLimits(faults=allowed, max_faults=budget, max_steps=max_steps, patience_seconds=patience_seconds)
    result = Exploration(seed=seed)
    began = time.monotonic()
    sampler = SchedulerFactory(seed=seed, strategy=strategy, max_faults=budget, depth=depth)
    search: SearchMode = Exhausting(sampler, checks, result) if exhaustive else Sampling(sampler, result)
    names: set[str] = set()
    with _scenario_runner(scenario, lambda: Resources(url, clean, client, async_client), limits) as runner:
        for number, scheduler in enumerate(_chain(first, search)):
            execution = runner.run(scheduler)
            search.learn(execution)
            names.update(execution.names, map(letter, range(len(execution.names))))
            _count(result, execution)
            if execution.error is not None:
                result.failure = runner.shrink(execution, number)
            result.seconds = time.monotonic() - began
            if progress:
                progress(result)
            spent = result.schedules == limit or (seconds is not None and result.seconds >= seconds)
            if result.failure or spent:
                break
        result.redundant = search.redundant
    if result.failure is None and (absent := allowed.keys() - names - {""}):
        raise ValueError(
            f"faults are to strike {', '.join(map(repr, sorted(absent)))}, and no actor is called so; there are "
            f"{', '.join(map(repr, sorted(names)))}"
        )
    return result


def replay(
    scenario: Scenario,
    schedule: str | Schedule,
    *,
    url: str,
    clean: Callable[[], None] | None = None,
    client: Callable[[str], redis.Redis] = redis.Redis.from_url,
    async_client: Callable[[str], redis.asyncio.Redis] = redis.asyncio.Redis.from_url,
    max_steps: int = MAX_STEPS,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Execution:
    """Run `scenario(world)` once, under `schedule`; its error, if any, is in what is returned.

    Raises `NondeterminismError` where the schedule cannot be followed.
    """
    __tracebackhide__ = True
    _check_scenario(scenario)
    steps = Schedule.parse(schedule) if isinstance(schedule, str) else schedule
    kinds = frozenset(step.kind for step in steps) - {StepKind.RUN}
    limits = ExecutionLimits(
        faults={"": kinds}, max_faults=len(steps), max_steps=max_steps, patience_seconds=patience_seconds
    )
    with _scenario_runner(scenario, lambda: Resources(url, clean, client, async_client), limits) as runner:
        try:
            return runner.run(ReplayScheduler(steps))
        except NondeterminismError as error:
            if not error.scripts_missing:
                raise
        # The schedule was found on a server that knew them: by any run, so one that just runs on will do.
        runner.run(PlanScheduler({}))
        return runner.run(ReplayScheduler(steps))


@dataclass(slots=True)
class _ScenarioRunner:
    """Runs the scenario, each time on an empty database."""

    scenario: Scenario
    resources: Resources
    limits: ExecutionLimits

    def run(self, scheduler: Scheduler) -> Execution:
        """One run. A first one that had to load its scripts is done again: with them loaded, as all that follow."""
        __tracebackhide__ = True
        execution = self._run_once(scheduler)
        if _lacks_scripts(execution.events) and not _flushes(execution):
            if isinstance(scheduler, ExhaustiveScheduler | RandomSampler):
                scheduler.again()
            execution = self._run_once(scheduler)
        return execution

    def _run_once(self, scheduler: Scheduler) -> Execution:
        __tracebackhide__ = True
        self.resources.clean()
        random.seed(0)
        world = World(self.resources, scheduler, self.limits)
        error: BaseException | None = None
        try:
            try:
                self.scenario(world)
                world.check_that_all_acted()
            finally:
                with interrupts.deferred():
                    world.close()
        except (DivergedError, EnabledStepsChangedError) as changed:
            names = [actor.name for actor in world.actors]
            raise NondeterminismError(
                _uncontrolled(str(changed), world.events, names), scripts_missing=_lacks_scripts(world.events)
            ) from None
        except BaseException as failure:
            if not _is_failure(failure) or interrupts.interrupt_behind(failure):
                raise
            error = failure
        return Execution(
            choices=tuple(world.choices),
            events=tuple(world.events),
            names=tuple(actor.name for actor in world.actors),
            last=world.last,
            error=error,
        )

    def shrink(self, execution: Execution, number: int) -> Failure:
        """The smallest run that fails in the same way; run twice, to know that it can be replayed."""
        __tracebackhide__ = True
        runs: dict[int, Execution] = {}

        def attempt(plan: DeviationPlan) -> tuple[tuple[ChoicePoint, Step], ...] | None:
            again = self.run(PlanScheduler(plan))
            if again.kind != execution.kind:
                return None
            runs[id(again.choices)] = again
            return again.choices

        smallest = Shrinker(attempt).shrink(execution.choices)
        best = runs.get(id(smallest), execution)
        again = self.run(ReplayScheduler(best.schedule))
        differs = first_difference(best.events, again.events)
        if differs is not None or again.kind != best.kind:
            place = f"step {differs + 1} is another" if differs is not None else "the outcome is another"
            raise NondeterminismError(
                _uncontrolled(f"replayed, {place}", best.events[: (differs or 0) + 1], best.names)
            )
        return Failure(execution=best, found=execution.schedule, number=number)


def _check_scenario(scenario: object) -> None:
    """Raises TypeError for what cannot be called with a world, or would come back before anything in it has run."""
    __tracebackhide__ = True
    if not callable(scenario):
        raise TypeError(
            f"{scenario!r} is no scenario: give a function of a world, or a queue and its contract, as in "
            'redisq.explore(queue, contract="at-least-once")'
        )
    lazy = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(is_lazy(scenario) for is_lazy in lazy):
        raise TypeError(
            f"{scenario!r} is no plain function, and nothing in it would run: make it one. Its actors may be coroutine "
            "functions."
        )


@contextlib.contextmanager
def _scenario_runner(
    scenario: Scenario, make_resources: Callable[[], Resources], limits: ExecutionLimits
) -> Iterator[_ScenarioRunner]:
    """Whatever is drawn by lot within is drawn the same each time, and time is the schedule's."""
    with interrupts.not_replaced(), interrupts.cleared_up() as held:
        with interrupts.deferred():
            held.callback(random.setstate, random.getstate())
            resources = make_resources()
            held.callback(resources.close)
            held.enter_context(virtual_time(resources.mailbox))
            held.enter_context(silent_kills())
        yield _ScenarioRunner(scenario, resources, limits)


@dataclass(slots=True)
class Sampling:
    sampler: SchedulerFactory
    result: Exploration
    number: int = 0
    redundant: int = 0

    def next(self) -> Scheduler | None:
        self.number += 1
        return self.sampler.scheduler(self.number - 1)

    def learn(self, execution: Execution) -> None:
        self.sampler.learn(execution.choices)
        self.result.schedules += 1


@dataclass(slots=True)
class Exhausting:
    """All that the tree gives; then what it skipped, or some of that by lot, which must be among it."""

    sampler: SchedulerFactory
    checks: int
    result: Exploration
    tree: ExhaustiveScheduler = field(default_factory=ExhaustiveScheduler)
    random_sampler: RandomSampler = field(default_factory=RandomSampler)
    last: StepEffect | None = None
    now: Literal["given", "tree", "lot"] = "given"
    drawn: int = 0
    run_schedules: set[Schedule] = field(default_factory=set)
    orders: set[int] = field(default_factory=set)

    @property
    def redundant(self) -> int:
        return self.tree.redundant

    def next(self) -> Scheduler | None:
        if self.now != "lot" and (self.last is None or self.tree.advance(self.last)):
            self.now = "tree"
            return self.tree
        self.now = "lot"
        self.result.complete = not self.result.missed
        self.result.checked_all = self.random_sampler.exhausted
        if self.drawn >= self.checks or self.random_sampler.exhausted:
            return None
        self.drawn += 1
        return self.random_sampler.begin(self.sampler.scheduler(self.drawn))

    def learn(self, execution: Execution) -> None:
        self.sampler.learn(execution.choices)
        order = hash(execution.order)
        if self.now == "tree":
            self.last = execution.last
            self.orders.add(order)
        elif self.now == "lot":
            self.random_sampler.end()
            if execution.schedule not in self.run_schedules:
                self.result.checked += 1
                self.result.missed += order not in self.orders
        self.result.schedules += self.now != "lot"
        self.run_schedules.add(execution.schedule)


SearchMode: TypeAlias = "Sampling | Exhausting"


def _chain(first: Iterable[Schedule], search: SearchMode) -> Iterator[Scheduler]:
    for schedule in first:
        yield PlanScheduler(dict(enumerate(schedule)))
    while (scheduler := search.next()) is not None:
        yield scheduler


def _count(result: Exploration, execution: Execution) -> None:
    points = [point.enabled_step(step) for point, step in execution.choices]
    for at, (one, two) in enumerate(zip(execution.events, execution.events[1:], strict=False)):
        left, right = points[at], points[at + 1]
        if one.step.actor != two.step.actor and left and right and left.footprint.conflicts(right.footprint):
            result.orders.add((*one.shape, *two.shape))


def _is_failure(error: BaseException) -> bool:
    """Whether an exception is a verdict on the scenario; skips, assumptions and interrupts are not, nor our own."""
    if type(error).__module__.partition(".")[0] == "hypothesis":
        return False
    if isinstance(error, RedisqError) and not isinstance(error, DeliveryError):
        return False
    return isinstance(error, Exception) or type(error).__name__ == "Failed"


def _lacks_scripts(events: Iterable[ExecutedStep]) -> bool:
    return any(event.reply.startswith(b"-NOSCRIPT") for event in events)


def _flushes(execution: Execution) -> bool:
    return any(step.kind is StepKind.FLUSH_SCRIPTS or step.kind in OF_THE_SERVER for _, step in execution.choices)


def _uncontrolled(what: str, events: Sequence[ExecutedStep], names: Sequence[str]) -> str:
    return (
        f"The same schedule went two ways: {what}.\n{table(events, names=names) if events else ''}\n"
        "What to do: look for what the schedule does not control: random numbers, set or dict order, clocks, "
        "threads of the actor's own, data outside of the explored database; a schedule of old may also be that of a "
        "scenario which has changed since."
    )
