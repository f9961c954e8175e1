"""The result of an exploration: how many schedules were executed, and the shortest failure if there is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_redisq.check.verdict import JudgedAs
from pytest_redisq.errors import DeliveryError, ScheduleError
from pytest_redisq.explore.execution import WHERE_TO_LOOK, Execution
from pytest_redisq.explore.exploration_evidence import ExplorationEvidence
from pytest_redisq.explore.picture import page, svg
from pytest_redisq.explore.schedule import Schedule, Step, letter


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    """How many replays of a schedule were made, how many of them failed in the same way, and how the first of the
    others differed.
    """

    failed: int
    made: int
    difference: str = ""

    def __str__(self) -> str:
        return f"replays {self.failed} of {self.made} times"

    @property
    def always(self) -> bool:
        """Whether each replay failed."""
        return self.failed == self.made


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The shortest failing execution that was found, the one that failed first, and its number.

    * `number`: from 0; None: a given schedule was replayed, and nothing was searched.
    * `scenario`: the name of its function, for the line that replays it.
    * `tried`: how many schedules were tried to shrink it. `stopped`: what ended that before its end; empty if nothing.
    * `replays`: of its schedule; None: it was not replayed.
    """

    execution: Execution
    first: Execution
    number: int | None
    scenario: str = "scenario"
    tried: int = 0
    stopped: str = ""
    replays: Replays | None = None

    @classmethod
    def of(cls, execution: Execution, scenario: object, number: int | None = None) -> Failure:
        """The failure that `execution` of `scenario` is, not shrunk."""
        name = str(getattr(scenario, "__name__", ""))
        known = name if name.isidentifier() else "scenario"
        return cls(execution=execution, first=execution, number=number, scenario=known)

    @property
    def found(self) -> Schedule:
        """The schedule that failed first."""
        return self.first.schedule

    @property
    def schedule(self) -> Schedule:
        """The shortest failing schedule, to replay."""
        return self.execution.schedule

    @property
    def error(self) -> BaseException:
        """What the scenario raised."""
        assert self.execution.error
        return self.execution.error

    def record(self) -> dict[str, Any]:
        """The failure as a JSON object."""
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
        """The failure as an HTML page with a picture, which needs no other file."""
        said = f"{type(self.error).__name__}: {self.error}"
        drawing = svg(
            self.execution.events,
            names=self.execution.names,
            at_fault=self.execution.at_fault,
            times=self.execution.times,
        )
        return page(self._title(), said, self._replay(), drawing)

    def explain(self) -> str:
        """The failure as text: what went wrong, the table of steps, and the line that replays it."""
        error = self.error
        name = type(error).__name__
        said = str(error).strip() or "(no message)"
        return "\n".join(
            [
                f"{self._title()}:",
                "",
                self.execution.table(),
                "",
                f"{name}: {said}",
                "",
                *self._reservations(),
                f"replay: {self._replay()}",
            ]
        )

    def _replay(self) -> str:
        return f'redisq.replay({self.scenario}, "{self.schedule}")'

    def _reservations(self) -> list[str]:
        """What stopped the shrinking, and how replays differ."""
        said = [self.stopped] if self.stopped else []
        if self.replays and not self.replays.always:
            said += [f"{self.replays}: {self.replays.difference}", WHERE_TO_LOOK]
        return [*said, ""] if said else []

    def _point(self) -> str:
        """A broken contract or a crash in its first words, which pytest repeats in its summary; empty for an assert."""
        first = str(self.error).partition("\n")[0]
        if isinstance(self.error, DeliveryError):
            return f"{first}; "
        return "" if isinstance(self.error, AssertionError) else f"{type(self.error).__name__}: {first}; "

    def _title(self) -> str:
        faults = sum(point.costs(step) for point, step in self.execution.choices)
        shown = self.execution.shown
        counts = {"step": len(shown), "switch": shown.switches, "fault": faults}
        said = ", ".join(f"{count} {noun if count == 1 else _PLURALS[noun]}" for noun, count in counts.items())
        if self.number is None:
            return f"{self._point()}the replayed schedule fails; it has {said}"
        seldom = f" ({self.replays})" if self.replays and not self.replays.always else ""
        return f"{self._point()}schedule {self.number + 1} fails{seldom}; the shortest like it has {said}"


_PLURALS = {"step": "steps", "switch": "switches", "fault": "faults"}


@dataclass(slots=True, kw_only=True)
class Exploration:
    """The result of an exploration: how many schedules were executed, whether they are all, and the failure if there
    is one.

    `exhaustive`: whether all schedules were asked for; `complete`: whether all were executed. `stopped_by`: the budget
    that ended the search, such as "seconds=2"; empty if none did. `evidence`: what the executions showed.
    """

    seed: int | str
    exhaustive: bool = False
    stopped_by: str = ""
    evidence: ExplorationEvidence = field(default_factory=ExplorationEvidence)
    schedules: int = 0
    redundant: int = 0
    complete: bool = False
    #: Skipped schedules that were executed as a check after an exhaustive search; whether these were all, and not
    #: a sample; and how many were not equivalent to an executed schedule.
    checked: int = 0
    checked_all: bool = False
    missed: int = 0
    seconds: float = 0.0
    failure: Failure | None = None
    #: How many schedules failed with each known error, by the part of its text that was given.
    known: dict[str, int] = field(default_factory=dict)
    #: Where the failure is kept as a picture; None: nowhere.
    picture: Path | None = None
    #: The ordered pairs of conflicting commands that were seen: a measure of coverage.
    orders: set[tuple[Step, bytes, Step, bytes]] = field(default_factory=set)

    @classmethod
    def of_replay(cls, execution: Execution, scenario: object) -> Exploration:
        """What an exploration of one schedule finds, which was replayed. Raises ScheduleError if it fails."""
        __tracebackhide__ = True
        result = cls(seed=0, schedules=1)
        if execution.error is not None:
            result.failure = Failure.of(execution, scenario)
            raise result.error()
        return result

    def __str__(self) -> str:
        if self.failure:
            return self.failure.explain()
        if self.reasons:
            return f"unknown: {'; '.join(self.reasons)} ({self.schedules} schedules)"
        seen = [f"{len(self.orders)} orders of conflicting commands seen", f"{self.seconds:.1f} s"]
        shown = f"; {self.evidence}" if str(self.evidence) else ""
        failed = "".join(f"; {times} fail as known ({text})" for text, times in self.known.items() if times)
        return f"{self._holds()}{failed} ({', '.join(seen)}{shown})"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the exploration proves nothing, such as that no actor sent a command; empty if it proves something."""
        return tuple(self.evidence.reasons()) if self.schedules else ()

    @property
    def outcome(self) -> JudgedAs:
        """ "fail" if a schedule failed, "unknown" if there are `reasons`, else "pass"."""
        return "fail" if self.failure else "unknown" if self.reasons else "pass"

    def is_known(self, error: BaseException, *, times: int) -> bool:
        """Whether `error` is one of the known ones, which it counts so many `times`: a sample's not at all."""
        said = f"{type(error).__name__}: {error}"
        found = next((text for text in self.known if text in said), None)
        if found is not None:
            self.known[found] += times
        return found is not None

    @property
    def cut_short(self) -> bool:
        """Whether an exhaustive search was ended by its budget before all schedules were executed."""
        return self.exhaustive and not self.complete and bool(self.stopped_by) and self.failure is None

    def _holds(self) -> str:
        """The statement: "412 schedules, 0 equivalent ones skipped wrongly (checked on all 87), all hold".

        Where only a sample was checked: "(checked on a sample of 87)".
        """
        failed = sum(self.known.values())
        if self.cut_short:
            return f"{self.schedules - failed} schedules hold; stopped by {self.stopped_by}, so these are not all"
        if not self.complete and not self.missed:
            return f"{self.schedules - failed} schedules hold"
        on = f"all {self.checked}" if self.checked_all else f"a sample of {self.checked}"
        skipped = f"{self.missed} equivalent ones skipped wrongly (checked on {on}), " if self.checked else ""
        hold = "others hold" if failed else "hold"
        return f"{self.schedules} schedules, {skipped}all {'' if self.complete else 'that were run '}{hold}"

    def error(self) -> ScheduleError:
        """The failure as an exception, with the scenario's own as its cause; not raised. There must be a failure."""
        assert self.failure
        error = ScheduleError(self.failure.explain(), schedule=str(self.failure.schedule), picture=self.picture)
        error.__cause__ = self.failure.error
        return error

    def verify(self, *, strict: bool = False) -> Exploration:
        """Return the result itself, if no schedule failed and the exploration proves something.

        `strict`: whether an exhaustive search that its budget cut short proves nothing; default False.

        Raises `ScheduleError`: from what the scenario raised, or with the reasons why nothing is proved.
        """
        __tracebackhide__ = True
        if self.failure:
            raise self.error()
        if self.reasons:
            raise ScheduleError(str(self))
        if strict and self.cut_short:
            raise ScheduleError(
                f"unknown: {self._holds()}.\nWhat to do: raise the budget, or leave out --redisq-strict."
            )
        return self
