"""The result of an exploration: how many schedules were executed, and the shortest failure if there is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_redisq.errors import ScheduleError
from pytest_redisq.explore.execution import Execution
from pytest_redisq.explore.picture import page, svg
from pytest_redisq.explore.schedule import Schedule, Step, letter


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
