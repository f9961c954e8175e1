"""Shrinks the failure that an exploration found, and replays it. The failure is kept, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pytest_redisq import interrupts
from pytest_redisq.errors import RedisqError, ServerError
from pytest_redisq.explore.execution import Execution
from pytest_redisq.explore.exploration import Failure, Replays
from pytest_redisq.explore.scenario_runner import ScenarioRunner
from pytest_redisq.explore.schedulers.deviation_plan import DeviationPlan
from pytest_redisq.explore.schedulers.plan_scheduler import PlanScheduler
from pytest_redisq.explore.schedulers.replay_scheduler import ReplayScheduler
from pytest_redisq.explore.schedulers.scheduler import Scheduler
from pytest_redisq.explore.shrink import Shrinker, size
from pytest_redisq.explore.step_table import describe
from pytest_redisq.explore.trace import first_difference
from pytest_redisq.servers.server_connection import ServerClosedError

#: Seconds for which a failure may be shrunk that was found at the end of the budget.
SHRINK_SECONDS = 10.0

#: How often a schedule is replayed that did not fail in its first replay.
REPLAYS = 5


class _BudgetSpentError(Exception):
    """The time for shrinking is over."""


@dataclass(slots=True, kw_only=True)
class FailureShrinker:
    """Makes `failure` smaller, step by step.

    * `runner`: executes the scenario. `failure`: as it was found.
    * `until`: when to stop, by `time.monotonic`.
    * `changed`: called with the failure so far, after each execution.
    """

    runner: ScenarioRunner
    failure: Failure
    until: float
    changed: Callable[[Failure], None]
    _longest_seconds: float = 0.0

    def run(self) -> None:
        """Shrink the failure, and replay it.

        What stops this is told in `failure.stopped`. Raises only what ends more than this exploration, such as Ctrl-C.
        """
        __tracebackhide__ = True
        doing = "shrunk further"
        try:
            self._shrink()
            doing = "replayed"
            self._replay()
        except BaseException as error:
            reason = interrupts.interrupt_behind(error) or error
            self._change(stopped=f"not {doing}: {_words(reason)}")
            if not isinstance(reason, Exception) and not interrupts.is_timeout_of_a_test(reason):
                raise

    def _change(self, **fields: Any) -> None:
        self.failure = replace(self.failure, **fields)
        self.changed(self.failure)

    def _shrink(self) -> None:
        found = self.failure.execution
        # A smaller schedule rarely takes more steps than this. A schedule without an end would take `max_steps`.
        most = min(self.runner.limits.max_steps, 2 * len(found.choices) + 100)
        runner = replace(self.runner, limits=replace(self.runner.limits, max_steps=most))

        def attempt(plan: DeviationPlan) -> Execution | None:
            again = self._execute(runner, PlanScheduler(plan))
            best = self.failure.execution
            if isinstance(again, Exception) or again.failure_kind != found.failure_kind:
                self._change(tried=self.failure.tried + 1)
                return None
            self._change(execution=min(again, best, key=size), tried=self.failure.tried + 1)
            return again

        shrinker = Shrinker(attempt)
        shrinker.shrink(found)
        if shrinker.cut_short:
            self._change(stopped=f"not shrunk further: {self.failure.tried} schedules were tried")

    def _replay(self) -> None:
        """Replay the smallest schedule. If it does not fail each time, and the schedule that was found fails more
        often, that one is the failure.
        """
        best, found = self.failure.execution, self.failure.first
        replays = self._replays(best)
        if replays.failed < replays.made and best is not found:
            of_the_found = self._replays(found)
            if of_the_found.failed > replays.failed:
                best, replays = found, of_the_found
        self._change(execution=best, replays=replays)

    def _replays(self, execution: Execution) -> Replays:
        """Replay `execution` once, and several times if the first replay differs."""
        first = self._difference(execution)
        if not first:
            return Replays(failed=1, made=1)
        differences = [first]
        with contextlib.suppress(_BudgetSpentError):
            differences += (self._difference(execution) for _ in range(REPLAYS - 1))
        return Replays(failed=differences.count(""), made=len(differences), difference=first)

    def _difference(self, execution: Execution) -> str:
        """What differs if the schedule is replayed; empty if nothing does."""
        again = self._execute(self.runner, ReplayScheduler(execution.schedule))
        if isinstance(again, Exception):
            return _words(again)
        at = first_difference(execution.events, again.events)
        if at is not None:
            steps = [describe(run.events[at]) if at < len(run.events) else "missing" for run in (again, execution)]
            return f"step {at + 1} is {steps[0]}, not {steps[1]}"
        return "" if again.failure_kind == execution.failure_kind else "the result differs"

    def _execute(self, runner: ScenarioRunner, scheduler: Scheduler) -> Execution | Exception:
        """The execution, or the error why it has no result. Raises what makes further executions useless."""
        began = time.monotonic()
        if began + self._longest_seconds > self.until:
            raise _BudgetSpentError("its time is over (shrink_seconds)")
        try:
            return runner.run(scheduler)
        except Exception as error:
            if isinstance(error, (ServerClosedError, ServerError)) or interrupts.interrupt_behind(error):
                raise
            return error
        except BaseException as error:
            if type(error).__name__ != "Skipped":
                raise
            return RedisqError("the scenario skips the test")
        finally:
            self._longest_seconds = max(self._longest_seconds, time.monotonic() - began)


def _words(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "Ctrl-C"
    first = str(error).strip().partition("\n")[0]
    return first if isinstance(error, _BudgetSpentError) else f"{type(error).__name__}: {first}"
