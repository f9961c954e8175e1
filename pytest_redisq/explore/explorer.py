"""Runs a scenario under many schedules until one fails or the budget is spent, then shrinks what failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import dataclass

import redis
import redis.asyncio

from pytest_redisq.explore.actor_controller import PATIENCE_SECONDS
from pytest_redisq.explore.execution import Execution, NondeterminismError
from pytest_redisq.explore.execution_loop import ExecutionLimits
from pytest_redisq.explore.exploration import Exploration, Failure
from pytest_redisq.explore.failure_shrinker import SHRINK_SECONDS, FailureShrinker
from pytest_redisq.explore.held_logs import write
from pytest_redisq.explore.resources import Resources, patient_async_client, patient_client
from pytest_redisq.explore.scenario_runner import Scenario, ScenarioRunner, check_scenario, scenario_runner
from pytest_redisq.explore.schedule import Schedule, StepKind, kinds_by_actor, letter
from pytest_redisq.explore.schedulers.plan_scheduler import PlanScheduler
from pytest_redisq.explore.schedulers.replay_scheduler import ReplayScheduler
from pytest_redisq.explore.schedulers.scheduler_factory import STRATEGIES, SchedulerFactory, Strategy
from pytest_redisq.explore.search_modes import Exhausting, Sampling, SearchMode, count_orders, schedulers_of
from pytest_redisq.faults import ExploreFaults

#: Schedules to run if no budget is given.
SCHEDULES = 500


#: Schedules to sample after an exhaustive search, to check that it skipped only equivalent ones.
CHECKS = 300


#: Steps after which an execution counts as endless.
MAX_STEPS = 2_000


def explore(
    scenario: Scenario,
    *,
    url: str,
    clean: Callable[[], None] | None = None,
    client: Callable[[str], redis.Redis] = patient_client,
    async_client: Callable[[str], redis.asyncio.Redis] = patient_async_client,
    prefix: str = "",
    schedules: int | None = None,
    seconds: float | None = None,
    seed: int | str = 0,
    faults: ExploreFaults = (),
    max_faults: int = 1,
    exhaustive: bool = False,
    checks: int = CHECKS,
    strategy: Strategy = "mix",
    depth: int = 3,
    max_steps: int = MAX_STEPS,
    patience_seconds: float = PATIENCE_SECONDS,
    first: Iterable[Schedule] = (),
    progress: Callable[[Exploration], None] | None = None,
    shrink_seconds: float = SHRINK_SECONDS,
    known: Collection[str] = (),
) -> Exploration:
    """Run `scenario(world)` under many schedules, each on an empty database, and shrink the first failure.

    * `url`, `clean`: the server and a database that only this call uses; empties it (None: FLUSHDB).
    * `client`, `async_client`: make a client from a URL, for functions and for coroutines. `prefix`: what these clients
      put before each key; default none.
    * `schedules`, `seconds`: the budget; the limit reached first ends the search. Default: 500 schedules.
    * `seed`: the same seed gives the same schedules.
    * `faults`, `max_faults`: names or `Fault` objects, see `faults.CATALOGUE`; how many may happen in an execution.
    * `exhaustive`: run every schedule, except those that differ only in the order of commands that do not conflict.
    * `checks`: how many schedules an exhaustive search samples at its end, to see whether it skipped one that matters.
    * `strategy`: how schedules are sampled: "mix", "pos", "random", "urw" or "pct"; `depth` is that of "pct".
    * `max_steps`: an execution of more steps counts as endless.
    * `patience_seconds`: how long an actor may do nothing. An actor that computes gets six times as long.
    * `first`: schedules to try first. `progress`: called with the result so far after each execution.
    * `shrink_seconds`: how long a failure may be shrunk, or as long as `seconds` has left; default 10. Whatever happens
      meanwhile, the failure is the result. Ctrl-C has it as its cause, a `ScheduleError`.
    * `known`: parts of the texts of known errors. The search counts a failure with one, and goes on; default none.

    Raises `NondeterminismError` if a schedule cannot be repeated, `StuckError` and `EndlessError` if an execution does
    not end, `ValueError` for invalid arguments, `TypeError` for an object that is not a scenario.
    """
    __tracebackhide__ = True
    check_scenario(scenario)
    _check_arguments(strategy, schedules=schedules, max_faults=max_faults, depth=depth, shrink_seconds=shrink_seconds)
    allowed = kinds_by_actor(faults)
    most = max_faults if allowed else 0
    limits = ExecutionLimits(faults=allowed, max_faults=most, max_steps=max_steps, patience_seconds=patience_seconds)
    result = Exploration(seed=seed, exhaustive=exhaustive, known=_known_errors(known))
    result.evidence.faults_asked, result.evidence.given = most > 0, len(given := tuple(first))
    factory = SchedulerFactory(seed=seed, strategy=strategy, max_faults=most, depth=depth)
    search: SearchMode = Exhausting(factory, checks, result) if exhaustive else Sampling(factory, result)
    budget = _Budget(schedules, seconds, shrink_seconds, exhaustive)
    with scenario_runner(scenario, lambda: Resources(url, clean, client, async_client, prefix), limits) as runner:
        names = _search(runner, search, result, budget, given, progress)
    _check_actors(result, allowed.keys() - {""}, names)
    return result


def _check_arguments(strategy: str, **numbers: float | None) -> None:
    __tracebackhide__ = True
    if strategy not in STRATEGIES:
        raise ValueError(f"no such strategy: {strategy!r}; the strategies are {', '.join(STRATEGIES)}")
    for name, number in numbers.items():
        least = 0 if name in ("max_faults", "shrink_seconds") else 1
        if number is not None and number < least:
            raise ValueError(f"{name}={number!r} must be at least {least}")


def _known_errors(known: Collection[str]) -> dict[str, int]:
    """Each text with the count 0. Raises `ValueError` for what would match every error: the characters of one text."""
    __tracebackhide__ = True
    if isinstance(known, str) or not all(known):
        raise ValueError(f'known={known!r} must be a list of texts that are not empty, such as known=["1 lost"]')
    return dict.fromkeys(known, 0)


def _check_actors(result: Exploration, named: Set[str], names: Set[str]) -> None:
    """Raise `ValueError` if faults name an actor that does not exist: they would never strike, and all would hold."""
    __tracebackhide__ = True
    if result.failure is None and (absent := named - names):
        raise ValueError(
            f"no actor is called {' or '.join(map(repr, sorted(absent)))}, which faults= names; the actors are "
            f"{', '.join(map(repr, sorted(names)))}"
        )


@dataclass(slots=True)
class _Budget:
    """How many schedules, and how many seconds, an exploration may take; None: any number. `shrink_seconds`: how long
    a failure may be shrunk in any case. `exhaustive`: whether no limit means none, and not `SCHEDULES`.
    """

    schedules: int | None
    seconds: float | None
    shrink_seconds: float
    exhaustive: bool

    def __post_init__(self) -> None:
        if self.schedules is None and self.seconds is None and not self.exhaustive:
            self.schedules = SCHEDULES

    @property
    def words(self) -> str:
        """The budget as it is given, such as "seconds=2"."""
        given = {"schedules": self.schedules, "seconds": self.seconds}
        return ", ".join(f"{name}={limit:g}" for name, limit in given.items() if limit is not None)

    def end_of_shrinking(self, began: float) -> float:
        """When to stop shrinking a failure that is found now, by `time.monotonic`; `began`: when the search did."""
        return max(began + (self.seconds or 0.0), time.monotonic() + self.shrink_seconds)

    def is_spent(self, result: Exploration) -> bool:
        return result.schedules == self.schedules or (self.seconds is not None and result.seconds >= self.seconds)


def _search(
    runner: ScenarioRunner,
    search: SearchMode,
    result: Exploration,
    budget: _Budget,
    first: Iterable[Schedule],
    progress: Callable[[Exploration], None] | None,
) -> set[str]:
    """Execute schedules until one fails, none is left, or the budget is spent. Returns the names of all actors."""
    __tracebackhide__ = True
    began = time.monotonic()
    names: set[str] = set()

    def tell() -> None:
        result.seconds = time.monotonic() - began
        if progress:
            progress(result)

    for number, scheduler in enumerate(schedulers_of(first, search)):
        try:
            execution = runner.run(scheduler)
        except BaseException:
            write(runner.logs)
            raise
        before = result.schedules
        search.learn(execution)
        names.update(execution.names, map(letter, range(len(execution.names))))
        count_orders(result, execution)
        result.evidence.add(execution)
        if execution.error is not None and not result.is_known(execution.error, times=result.schedules - before):
            failure = Failure.of(execution, runner.scenario, number)
            _shrink(runner, result, failure, budget.end_of_shrinking(began), tell)
        else:
            tell()
        if result.failure or budget.is_spent(result):
            result.stopped_by = budget.words
            break
    result.redundant = search.redundant
    return names


def _shrink(
    runner: ScenarioRunner, result: Exploration, failure: Failure, until: float, tell: Callable[[], None]
) -> None:
    """Shrink `failure`, which is the result's from now on, whatever happens. `tell`: called after each execution."""
    __tracebackhide__ = True

    def changed(so_far: Failure) -> None:
        result.failure = so_far
        tell()

    changed(failure)
    try:
        FailureShrinker(runner=runner, failure=failure, until=until, changed=changed).run()
    except BaseException as error:  # Ctrl-C
        raise error from result.error()
    finally:
        write(result.failure.execution.logs if result.failure else ())


def replay(
    scenario: Scenario,
    schedule: str | Schedule,
    *,
    url: str,
    clean: Callable[[], None] | None = None,
    client: Callable[[str], redis.Redis] = patient_client,
    async_client: Callable[[str], redis.asyncio.Redis] = patient_async_client,
    prefix: str = "",
    max_steps: int = MAX_STEPS,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Execution:
    """Run `scenario(world)` once, under `schedule`. The scenario's error, if any, is in the result.

    * `schedule`: as text ("AAB2rA"), or a `Schedule`. After its last step the default choices follow.
    * The other parameters are those of `explore`.

    Raises `NondeterminismError` where the schedule cannot be followed.
    """
    __tracebackhide__ = True
    check_scenario(scenario)
    steps = Schedule.parse(schedule) if isinstance(schedule, str) else schedule
    kinds = frozenset(step.kind for step in steps) - {StepKind.RUN}
    limits = ExecutionLimits(
        faults={"": kinds}, max_faults=len(steps), max_steps=max_steps, patience_seconds=patience_seconds
    )
    with scenario_runner(scenario, lambda: Resources(url, clean, client, async_client, prefix), limits) as runner:
        try:
            return runner.run_shown(ReplayScheduler(steps))
        except NondeterminismError as error:
            if not error.scripts_missing:
                raise
        # The schedule was found on a server that knew the scripts. Any execution loads them, so run one first.
        runner.run(PlanScheduler({}))
        return runner.run_shown(ReplayScheduler(steps))
