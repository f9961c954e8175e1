"""The loop that runs one execution: it waits until all actors are quiet, has a step chosen, and executes it.

Law of time: virtual time passes only when no actor holds a command (or earlier, as a fault), and then to the next
deadline. Keys and pending entries on the server age by the same time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio

from pytest_redisq.check import Verdict
from pytest_redisq.errors import RedisqError
from pytest_redisq.explore.actor import Actor
from pytest_redisq.explore.actor_controller import GRACE_SECONDS, PATIENCE_SECONDS, POLLING_AFTER, ActorController
from pytest_redisq.explore.enabled_steps import EnabledSteps
from pytest_redisq.explore.equivalence import StepEffect
from pytest_redisq.explore.footprint import ON_RECORD
from pytest_redisq.explore.resources import Resources
from pytest_redisq.explore.schedule import LASTING, TIMERS, ChoicePoint, Step, StepKind
from pytest_redisq.explore.schedulers.scheduler import Scheduler
from pytest_redisq.explore.step_executor import StepExecutor
from pytest_redisq.explore.trace import ExecutedStep, command_text


class DeadlockError(AssertionError):
    """All actors wait, and nothing can wake them any more."""


class GraceError(AssertionError):
    """An actor that was asked to end has not ended in time."""


class EndlessError(RedisqError):
    """An execution has not ended within its limit of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionLimits:
    """The limits of one execution.

    * `faults`: by actor's name (`""`: all actors), the faults that may strike it.
    * `max_faults`: the most faults in all.
    * `max_steps`: steps after which it counts as endless.
    * `patience_seconds`: how long an actor may do nothing.
    """

    faults: dict[str, frozenset[StepKind]]
    max_faults: int
    max_steps: int
    patience_seconds: float = PATIENCE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class StruckStep:
    """A fault that struck, or the end of what it did.

    `number`: which step of the schedule it was, from 1. `steps`: the number of steps when this happened; `now`: the
    virtual time. `step`: the step by which it happened.
    """

    number: int
    steps: int
    now: float
    step: Step


class ExecutionLoop:
    """One execution of a scenario: the actors in `controller`, the steps chosen so far, and what they did."""

    def __init__(self, resources: Resources, scheduler: Scheduler, limits: ExecutionLimits) -> None:
        self._proxy = resources.proxy
        self._mailbox = resources.mailbox
        self._refusals = resources.refusals
        self._scheduler = scheduler
        self._max_steps = limits.max_steps
        self.controller: ActorController = ActorController(resources, patience_seconds=limits.patience_seconds)
        self._enabled = EnabledSteps(resources, self.controller, limits.faults, limits.max_faults)
        undo_writes = any(StepKind.FAILOVER in kinds for kinds in limits.faults.values())
        self._executor = StepExecutor(resources, self.controller, undo_writes=undo_writes)
        self._recorded_at = -1
        #: The faults that have struck, and the ends of pauses.
        self.struck: list[StruckStep] = []
        #: The numbers of the steps that have paused or delayed what has not gone on.
        self._pauses: list[int] = []
        self.may_strike: bool = limits.max_faults > 0 and any(limits.faults.values())
        #: The steps chosen so far, each with what could be chosen.
        self.choices: list[tuple[ChoicePoint, Step]] = []
        #: Virtual time after each of them.
        self.times: list[float] = []
        #: What `World.verify` found.
        self.verdicts: list[Verdict] = []

    @property
    def events(self) -> list[ExecutedStep]:
        """The steps executed so far."""
        return self._executor.events

    @property
    def actors(self) -> tuple[Actor[Any], ...]:
        """All actors so far, in order of their letters."""
        return tuple(state.actor for state in self.controller.states)

    @property
    def paused(self) -> bool:
        """Whether the schedule has paused an actor, or delays a command."""
        return bool(self._proxy.delayed)

    @property
    def uncontrolled(self) -> frozenset[str]:
        """What has gone by the server's own clock, in words."""
        return self._executor.uncontrolled

    @property
    def now(self) -> float:
        """Seconds of virtual time since the execution began."""
        return self._mailbox.now

    def outlast_claims(self) -> None:
        """Make pending entries so old that any claim takes them over. Call it between the steps of actors."""
        self._executor.outlast_claims()

    def note_recorded(self) -> None:
        """Note that a recorded operation began or ended now, and that the contract compares its time with other
        actors'.
        """
        self._recorded_at = len(self.choices)

    @property
    def last(self) -> StepEffect:
        """What the last step did, as far as it has been seen."""
        effect = self._executor.effect
        return StepEffect(
            effect | ON_RECORD if self._recorded_at == len(self.choices) else effect, self._executor.woken
        )

    def run(self) -> None:
        """Let all actors act until they have ended, as the schedule says.

        Raises what an actor raised (unless a fault explains it), `DeadlockError`, `EndlessError`, `StuckError`.
        """
        __tracebackhide__ = True
        self.controller.start([state for state in self.controller.states if not state.started])
        while point := self._point():
            if len(self.choices) - self._executor.uncounted_steps >= self._max_steps:
                raise EndlessError(self._endless())
            step = self._scheduler.choose(point)
            self.choices.append((point, step))
            if costs := point.costs(step):
                self._note_strike(len(self.choices), step)
                # A client's own timeout that comes early ends its command with an error.
                self.controller.states[step.actor].faulted |= step.kind is StepKind.TIME
            self._executor.execute(step)
            if self.events[-1].missed:
                self.struck.pop()
            self.times.append(self.now)
            self._enabled.budget -= costs
            self.controller.settle()
            if self._proxy.delayed:
                self._executor.watch_pause()
            while self._pauses and not self._proxy.delayed:
                self._note_strike(self._pauses.pop(), step)
        for state in self.controller.states:
            if state.status != "ended":
                self.controller.kill(state)
        self.controller.settle()
        self._proxy.notice()

    def _note_strike(self, number: int, step: Step) -> None:
        """The fault of the `number`-th step strikes by this step, or its pause ends. A timeout strikes nothing."""
        if step.kind in LASTING:
            self._pauses.append(number)
        if step.kind is not StepKind.TIME or number < len(self.choices):
            self.struck.append(StruckStep(number=number, steps=len(self.choices), now=self.now, step=step))

    def end_faults(self) -> None:
        """Let no fault strike any more in this execution."""
        self._enabled.budget = 0

    def check_that_all_acted(self) -> None:
        """Check that `run` was called for all actors: otherwise the scenario would pass whatever they do.

        Raises `RedisqError` with their names.
        """
        __tracebackhide__ = True
        if idle := [state.actor.name for state in self.controller.states if not state.started]:
            raise RedisqError(
                f"The scenario ended before these actors ran: {', '.join(idle)}. Call world.run() in the scenario."
            )

    def close(self) -> None:
        """End the actors that are left."""
        self.controller.close()

    def _point(self) -> ChoicePoint | None:
        """The next choice point; None when the execution is over."""
        __tracebackhide__ = True
        self._raise_errors()
        held = [connection for connection in self._proxy.connections if connection.held]
        if self._only_background_left() and all(
            self.controller.states[each.actor].repeats >= POLLING_AFTER for each in held
        ):
            return None
        enabled_steps, early = self._enabled.choices(held)
        if all(enabled.kind in TIMERS for enabled in enabled_steps) and self.controller.is_active(
            to_the_last=not enabled_steps
        ):
            return self._point()
        if not enabled_steps:
            self._kill_deadlocked()
            return self._point()
        last = self.last
        return ChoicePoint(
            position=len(self.choices),
            enabled_steps=enabled_steps,
            early=early,
            previous=self.choices[-1][1].actor if self.choices else None,
            effect=last.footprint,
            woken=last.woken,
        )

    def _only_background_left(self) -> bool:
        return all(state.status == "ended" or state.actor.background for state in self.controller.states)

    def _kill_deadlocked(self) -> None:
        """Kill the actors that a fault is to kill after a command that still blocks, now that nothing can wake them.

        Raises `DeadlockError` where there are none.
        """
        __tracebackhide__ = True
        dying = {
            connection.actor for connection in self._proxy.connections if connection.blocked_kind is StepKind.KILL_AFTER
        }
        if not dying:
            lines = [self.controller.waiting(state) for state in self.controller.states if state.status != "ended"]
            raise DeadlockError("Deadlock: all actors wait, and nothing can wake them:\n" + "\n".join(lines))
        for index in dying:
            self.controller.kill(self.controller.states[index])
        self.controller.settle()

    def _endless(self) -> str:
        last = ", ".join(command_text(event.args) for event in self.events[-4:])
        counts = Counter(step.actor for _, step in self.choices)
        alive = [state for state in self.controller.states if state.status != "ended"]
        actors = "\n".join(f"{self.controller.busy_with(state)} ({counts[state.actor.index]} steps)" for state in alive)
        return (
            f"The run has not ended after {self._max_steps} steps; the last were: {last}.\n{actors}\n"
            "What to do: make the actors end (pass background=True for one that serves others), or raise max_steps."
        )

    def _raise_errors(self) -> None:
        __tracebackhide__ = True
        if self._refusals:
            raise self._refusals[0]
        for state in self.controller.states:
            if state.overstayed:
                raise GraceError(
                    f"{state.actor.name} was asked to end, had not ended {GRACE_SECONDS:g} s later, and was killed.\n"
                    "What to do: let it end when it is asked to, also while it waits for a message."
                )
            error = None if state.actor.killed else state.actor.error  # an error after the kill has no effect
            if (
                error
                and not (state.faulted and isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)))
                and not (state.refused and isinstance(error, redis.ResponseError))
            ):
                raise error
