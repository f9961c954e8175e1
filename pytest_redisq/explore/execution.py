"""The result of one execution: its choices, what happened, and the error that ended it."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_redisq.check import Verdict
from pytest_redisq.errors import DeliveryError, RedisqError
from pytest_redisq.explore.equivalence import EquivalenceKey, StepEffect, equivalence_key
from pytest_redisq.explore.held_logs import HeldRecord
from pytest_redisq.explore.schedule import ChoicePoint, Schedule, Step
from pytest_redisq.explore.step_table import folded, step_table
from pytest_redisq.explore.trace import ExecutedStep

#: What to do where a schedule does not always give the same execution.
WHERE_TO_LOOK = (
    "What to do: look for input that the schedule does not control: random numbers, set order, clocks, threads "
    "of the actor's own, data outside of the explored database."
)


class NondeterminismError(RedisqError):
    """The same schedule went two ways: something that the schedule does not control decides.

    `scripts_missing`: the server did not know a script, so the clients had to send it.
    """

    def __init__(self, text: str, *, scripts_missing: bool = False) -> None:
        super().__init__(text)
        self.scripts_missing = scripts_missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """The result of one execution: the choices, the steps, the verdicts, and the error that ended it, if any."""

    choices: tuple[tuple[ChoicePoint, Step], ...]
    events: tuple[ExecutedStep, ...]
    names: tuple[str, ...]
    last: StepEffect
    error: BaseException | None = None
    #: Virtual time after each step, in seconds.
    times: tuple[float, ...] = ()
    #: What was logged, held back until the execution is shown.
    logs: tuple[HeldRecord, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    #: What went by the server's own clock, in words.
    uncontrolled: frozenset[str] = frozenset()

    @property
    def schedule(self) -> Schedule:
        """The choices as a schedule."""
        return Schedule(step for _, step in self.choices)

    @property
    def shown(self) -> Schedule:
        """The steps that its table shows."""
        rows = folded(self.events, tuple(self.at_fault))
        return Schedule(self.events[row].step for row in rows if isinstance(row, int))

    @property
    def order(self) -> EquivalenceKey:
        """Its equivalence key: the same for executions that differ only in the order of independent steps."""
        return equivalence_key(self.choices, self.last)

    @property
    def failure_kind(self) -> tuple[str, str]:
        """The error's type, and the scenario's line that raised it: the same for two failures of the same kind."""
        if self.error is None:
            return "", ""
        frames = traceback.extract_tb(self.error.__traceback__)
        outside = [frame for frame in frames if "pytest_redisq" not in frame.filename]
        return type(self.error).__name__, f"{outside[0].filename}:{outside[0].lineno}" if outside else ""

    @property
    def at_fault(self) -> frozenset[bytes]:
        """The bodies of the messages that a broken contract names."""
        return self.error.bodies if isinstance(self.error, DeliveryError) else frozenset()

    def table(self) -> str:
        """The execution as a table: a column per actor, a row per step, a point where a message at fault is handled."""
        if not self.events:
            return "(no command was sent)"
        steps = step_table(
            self.events,
            names=self.names,
            at_fault=self.at_fault,
            times=self.times,
        )
        return f"{steps}\n● handles a message at fault" if self.at_fault else steps


def uncontrolled(what: str, events: Sequence[ExecutedStep], names: Sequence[str]) -> str:
    return (
        f"The same schedule went two ways: {what}.\n{step_table(events, names=names) if events else ''}\n"
        f"{WHERE_TO_LOOK} If the schedule is an old one, the scenario may have changed since."
    )
