"""Executes a scenario once under one scheduler."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from pytest_redisq import interrupts
from pytest_redisq.endpoint.forms import is_queue
from pytest_redisq.errors import DeliveryError, RedisqError
from pytest_redisq.explore.actor_threads import silent_kills
from pytest_redisq.explore.direct_connections import direct_connections_refused
from pytest_redisq.explore.equivalence import EnabledStepsChangedError
from pytest_redisq.explore.execution import Execution, NondeterminismError, uncontrolled
from pytest_redisq.explore.execution_loop import ExecutionLimits, ExecutionLoop
from pytest_redisq.explore.held_logs import HeldRecord, logs_held_back, write
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import FORGETS_SCRIPTS
from pytest_redisq.explore.schedulers.exhaustive_scheduler import ExhaustiveScheduler
from pytest_redisq.explore.schedulers.random_sampler import RandomSampler
from pytest_redisq.explore.schedulers.replay_scheduler import DivergedError
from pytest_redisq.explore.schedulers.scheduler import Scheduler
from pytest_redisq.explore.trace import ExecutedStep
from pytest_redisq.explore.virtual_time import virtual_time
from pytest_redisq.explore.world import World

Scenario: TypeAlias = Callable[[World], object]


@dataclass(slots=True)
class ScenarioRunner:
    """Executes the scenario, each time on an empty database.

    `logs`: what the last execution logged, which is not written yet.
    """

    scenario: Scenario
    resources: Resources
    limits: ExecutionLimits
    logs: list[HeldRecord] = field(default_factory=list)

    def run_shown(self, scheduler: Scheduler) -> Execution:
        """Execute the scenario as `run` does, and write what it logs."""
        __tracebackhide__ = True
        try:
            return self.run(scheduler)
        finally:
            write(self.logs)

    def run(self, scheduler: Scheduler) -> Execution:
        """Execute the scenario under one scheduler.

        If the clients had to load their scripts, it is executed again, with the scripts loaded, as in all later
        executions.
        """
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
        loop = ExecutionLoop(self.resources, scheduler, self.limits)
        error: BaseException | None = None
        made: object = None
        try:
            with logs_held_back() as self.logs:
                try:
                    made = self.scenario(World(self.resources, loop))
                    loop.check_that_all_acted()
                finally:
                    with interrupts.deferred():
                        loop.close()
        except (DivergedError, EnabledStepsChangedError) as changed:
            names = [actor.name for actor in loop.actors]
            raise NondeterminismError(
                uncontrolled(str(changed), loop.events, names), scripts_missing=_lacks_scripts(loop.events)
            ) from None
        except BaseException as failure:
            if not _is_failure(failure) or interrupts.interrupt_behind(failure):
                raise
            error = failure
        if not loop.actors and is_queue(made):
            raise TypeError(_forgotten_contract(self.scenario))
        return Execution(
            choices=tuple(loop.choices),
            events=tuple(loop.events),
            times=tuple(loop.times),
            names=tuple(actor.name for actor in loop.actors),
            last=loop.last,
            error=error,
            logs=tuple(self.logs),
            verdicts=tuple(loop.verdicts),
            uncontrolled=loop.uncontrolled,
        )


def check_scenario(scenario: object) -> None:
    """Raise `TypeError` for an object that is not callable, or a function whose call would not run its code."""
    __tracebackhide__ = True
    methods = [name for name in ("put", "get", "bind") if callable(getattr(scenario, name, None))]
    if "get" in methods or methods == ["bind"]:
        raise TypeError(_forgotten_contract(scenario))
    if not callable(scenario):
        raise TypeError(
            f"{scenario!r} is not a scenario: pass a function of a world, or a queue and its contract, as in "
            'redisq.explore(queue, contract="at-least-once")'
        )
    lazy = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(is_lazy(scenario) for is_lazy in lazy):
        raise TypeError(
            f"{scenario!r} is not a plain function, so its code would not run. Write it with def and without yield; "
            "its actors may be coroutine functions."
        )


def _forgotten_contract(queue: object) -> str:
    name = getattr(queue, "__name__", None) or type(queue).__name__
    return (
        f"{name} is a queue, and no contract was given, so there is nothing to check. Give it, as in "
        f'redisq.explore({name}, contract="at-least-once"), or pass a function of a world.'
    )


@contextlib.contextmanager
def scenario_runner(
    scenario: Scenario, make_resources: Callable[[], Resources], limits: ExecutionLimits
) -> Iterator[ScenarioRunner]:
    """A runner with its resources. Inside, the global random numbers are the same each time, and time is virtual."""
    with interrupts.not_replaced(), interrupts.cleared_up() as held:
        with interrupts.deferred():
            held.callback(random.setstate, random.getstate())
            resources = make_resources()
            held.callback(resources.close)
            held.enter_context(virtual_time(resources.mailbox))
            held.enter_context(
                direct_connections_refused(resources.control.peer, resources.direct, resources.refusals.append)
            )
            held.enter_context(silent_kills())
        yield ScenarioRunner(scenario, resources, limits)


def _is_failure(error: BaseException) -> bool:
    """Whether an exception is a verdict on the scenario; a skip, an assumption, an interrupt, the timeout of the whole
    test or our own error is not.
    """
    if type(error).__module__.partition(".")[0] == "hypothesis":
        return False
    if isinstance(error, RedisqError) and not isinstance(error, DeliveryError):
        return False
    if type(error).__name__ == "Failed":
        return not interrupts.is_timeout_of_a_test(error)
    return isinstance(error, Exception)


def _lacks_scripts(events: Iterable[ExecutedStep]) -> bool:
    return any(event.reply.startswith(b"-NOSCRIPT") for event in events)


def _flushes(execution: Execution) -> bool:
    return any(step.kind in FORGETS_SCRIPTS for _, step in execution.choices)
