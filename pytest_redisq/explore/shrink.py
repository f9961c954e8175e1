"""Shrinks a failing schedule: fewest faults, then fewest switches, then fewest steps.

Law: the result fails in the same way as the original; if nothing smaller does, it is the original. Where all smaller
plans can be tried, the result does not depend on the schedule that was found first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Generic, Protocol, TypeAlias, TypeVar

from pytest_redisq.explore.schedule import ChoicePoint, Schedule, Step, StepKind
from pytest_redisq.explore.schedulers.deviation_plan import DeviationPlan, PlanPosition, command_numbers

Choices: TypeAlias = Sequence[tuple[ChoicePoint, Step]]


class FailingExecution(Protocol):
    """A failing execution, as far as shrinking looks at it."""

    @property
    def choices(self) -> Choices:
        """All its steps, each with what could be chosen."""

    @property
    def shown(self) -> Schedule:
        """The steps that a table shows: repeated polls are left out."""


F = TypeVar("F", bound=FailingExecution)

#: The kinds of steps, from the easiest to understand to the hardest.
_SIMPLEST = (
    StepKind.RUN,
    StepKind.TIME,
    StepKind.NOTICE,
    StepKind.KILL_BEFORE,
    StepKind.KILL_AFTER,
    StepKind.LOSE_REPLY,
    StepKind.LOSE_REQUEST,
    StepKind.CUT_REPLY,
    StepKind.DISCONNECT,
    StepKind.TERM,
    StepKind.CANCEL,
    StepKind.GRACE,
    StepKind.PAUSE,
    StepKind.DELAY,
    StepKind.OOM,
    StepKind.READONLY,
    StepKind.LOADING,
    StepKind.NOSCRIPT,
    StepKind.MOVED,
    StepKind.EVICT,
    StepKind.GROUP_GONE,
    StepKind.RESTART,
    StepKind.RESTART_EMPTY,
    StepKind.FAILOVER,
    StepKind.FLUSH_SCRIPTS,
)


@dataclass(slots=True)
class Shrinker(Generic[F]):
    """Minimises a failing execution by at most `tries` further executions.

    `attempt`: executes a plan; returns None if it does not fail as the original did. `cut_short`: whether smaller plans
    were left when all tries were made.
    """

    attempt: Callable[[DeviationPlan], F | None]
    tries: int = 400
    cut_short: bool = False

    def shrink(self, execution: F) -> F:
        """The smallest failing execution that was found."""
        best = execution
        seen: set[frozenset[tuple[PlanPosition, Step]]] = set()
        improved = True
        while improved:
            improved = False
            for plan in _smaller(best.choices, self.tries):
                key = frozenset(plan.items())
                if key in seen:
                    continue
                seen.add(key)
                if self.tries <= 0:
                    self.cut_short = True
                    return best
                self.tries -= 1
                found = self.attempt(plan)
                if found is not None and size(found) < size(best):
                    best, improved = found, True
                    break
        return best


def size(execution: FailingExecution) -> tuple[object, ...]:
    """What is minimised: faults, deviations from the default, switches and steps that are shown, all steps, and last
    the order of letters.
    """
    choices, shown = execution.choices, execution.shown
    order = tuple((step.actor, step.connection, _SIMPLEST.index(step.kind)) for _, step in choices)
    faults = sum(point.costs(step) for point, step in choices)
    return faults, len(DeviationPlan.of(choices)), shown.switches, len(shown), len(choices), order


def _smaller(choices: Choices, tries: int) -> Iterator[DeviationPlan]:
    """Smaller plans that may fail as well, the most promising first.

    Pairs of deviations are tried only if the tries left are enough for all pairs: a few hundred of many thousand rarely
    find anything.
    """
    plan = DeviationPlan.of(choices)
    yield from _halves(plan)
    yield from _leaving_out(plan)
    yield from _simpler_kinds(plan)
    ways = _ways(choices)
    for deviations in range(min(2, len(plan) + 1)):
        yield from _afresh(ways, deviations)
    yield from _moved(plan, len(choices))
    if len(plan) >= 2 and comb(len(ways), 2) <= tries:
        yield from _afresh(ways, 2)


def _halves(plan: DeviationPlan) -> Iterator[DeviationPlan]:
    """The plan without half, a quarter … of its deviations in a row, which shortens a long schedule quickly."""
    places = _in_order(plan)
    width = len(places) // 2
    while width > 1:
        for start in range(0, len(places), width):
            gone = set(places[start : start + width])
            yield DeviationPlan({at: step for at, step in plan.items() if at not in gone})
        width //= 2


def _leaving_out(plan: DeviationPlan) -> Iterator[DeviationPlan]:
    for gone in reversed(_in_order(plan)):
        yield DeviationPlan({at: step for at, step in plan.items() if at != gone})


def _simpler_kinds(plan: DeviationPlan) -> Iterator[DeviationPlan]:
    for at, step in plan.items():
        for kind in _SIMPLEST[: _SIMPLEST.index(step.kind)] if isinstance(at, tuple) else ():
            yield DeviationPlan({**plan, at: step._replace(kind=kind)})


def _moved(plan: DeviationPlan, length: int) -> Iterator[DeviationPlan]:
    """Each deviation a little earlier or later, so that a switch disappears or a shorter execution is found."""
    for at in _in_order(plan):
        others = {other: kept for other, kept in plan.items() if other != at}
        for by in (-1, 1, -2, 2):
            to: PlanPosition = at + by if isinstance(at, int) else (at[0], at[1] + by)
            if to not in plan and 0 <= (to if isinstance(to, int) else to[1]) < length:
                yield DeviationPlan({**others, to: plan[at]})


def _afresh(ways: Sequence[tuple[PlanPosition, Step]], deviations: int) -> Iterator[DeviationPlan]:
    """Every plan of exactly so many of these deviations."""
    for chosen in combinations(ways, deviations):
        plan = DeviationPlan(chosen)
        if len(plan) == deviations:
            yield plan


def _ways(choices: Choices) -> list[tuple[PlanPosition, Step]]:
    """Every single deviation that this execution shows to be possible."""
    ways: list[tuple[PlanPosition, Step]] = []
    for (point, step), number in zip(choices, command_numbers(choices), strict=True):
        ways += [(point.position, enabled.step) for enabled in (*point.enabled_steps, *point.early)]
        enabled = point.enabled_step(step)
        if enabled and point.sends(step):
            faults = [step._replace(kind=kind) for kind in enabled.faults]
            ways += [((step.actor, number), fault) for fault in sorted(faults, key=_simplicity)]
    return ways


def _simplicity(step: Step) -> int:
    return _SIMPLEST.index(step.kind)


def _in_order(plan: DeviationPlan) -> list[PlanPosition]:
    """Switches by position, then faults."""
    return sorted(plan, key=lambda at: (0, at, 0) if isinstance(at, int) else (1, *at))
