"""From a failing schedule to the smallest: fewest faults, then fewest switches, then fewest steps.

Law: what comes out fails in the same way as what went in; if nothing smaller does, it is what went in. Where the
smaller plans are few enough to try them all, the answer does not depend on the schedule that was found first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import TypeAlias

from pytest_redisq.explore.schedule import Mark, Point, Schedule, Step
from pytest_redisq.explore.search import Place, Plan, command_numbers

Choices: TypeAlias = Sequence[tuple[Point, Step]]
#: Runs the plan and gives the choices that were made, or None where the run does not fail as the first one did.
Try: TypeAlias = Callable[[Plan], "Choices | None"]

#: From the fault that is easiest to think about to the hardest.
_SIMPLEST = (
    Mark.RUN,
    Mark.TIME,
    Mark.KILL_BEFORE,
    Mark.KILL_AFTER,
    Mark.LOSE_REPLY,
    Mark.LOSE_REQUEST,
    Mark.CUT_REPLY,
    Mark.DISCONNECT,
    Mark.PAUSE,
    Mark.RESTART,
    Mark.RESTART_EMPTY,
    Mark.FAILOVER,
    Mark.FLUSH_SCRIPTS,
)


@dataclass(slots=True)
class Shrinker:
    """Minimises a failing run by running it again in other ways, at most `tries` times."""

    attempt: Try
    tries: int = 400

    def shrink(self, choices: Choices) -> Choices:
        """The smallest failing run that was found."""
        best = choices
        seen: set[frozenset[tuple[Place, Step]]] = set()
        improved = True
        while improved:
            improved = False
            for plan in _smaller(best, self.tries):
                key = frozenset(plan.items())
                if key in seen:
                    continue
                seen.add(key)
                if self.tries <= 0:
                    return best
                self.tries -= 1
                found = self.attempt(plan)
                if found is not None and size(found) < size(best):
                    best, improved = found, True
                    break
        return best


def size(choices: Choices) -> tuple[object, ...]:
    """What is minimised: faults, deviations from running on, switches, steps, and last the order of letters."""
    schedule = Schedule(step for _, step in choices)
    order = tuple((step.actor, step.lane, _SIMPLEST.index(step.mark)) for step in schedule)
    faults = sum(point.costs(step) for point, step in choices)
    return faults, len(Plan.of(choices)), schedule.switches, len(schedule), order


def _smaller(choices: Choices, tries: int) -> Iterator[Plan]:
    """Plans that may fail as well, the most promising first. Pairs of any two deviations only where the tries that are
    left suffice for all of them: some hundred of many thousand find nothing but by luck.
    """
    plan = Plan.of(choices)
    yield from _halves(plan)
    yield from _leaving_out(plan)
    yield from _simpler_marks(plan)
    ways = _ways(choices)
    for deviations in range(min(2, len(plan) + 1)):
        yield from _afresh(ways, deviations)
    yield from _moved(plan, len(choices))
    if len(plan) >= 2 and comb(len(ways), 2) <= tries:
        yield from _afresh(ways, 2)


def _halves(plan: Plan) -> Iterator[Plan]:
    """Without whole stretches of the deviations: long found schedules come down quickly."""
    places = _in_order(plan)
    width = len(places) // 2
    while width > 1:
        for start in range(0, len(places), width):
            gone = set(places[start : start + width])
            yield Plan({at: step for at, step in plan.items() if at not in gone})
        width //= 2


def _leaving_out(plan: Plan) -> Iterator[Plan]:
    for gone in reversed(_in_order(plan)):
        yield Plan({at: step for at, step in plan.items() if at != gone})


def _simpler_marks(plan: Plan) -> Iterator[Plan]:
    for at, step in plan.items():
        for mark in _SIMPLEST[: _SIMPLEST.index(step.mark)] if isinstance(at, tuple) else ():
            yield Plan({**plan, at: step._replace(mark=mark)})


def _moved(plan: Plan, length: int) -> Iterator[Plan]:
    """Each deviation a little earlier or later, so that a switch disappears or a shorter way is met."""
    for at in _in_order(plan):
        others = {other: kept for other, kept in plan.items() if other != at}
        for by in (-1, 1, -2, 2):
            to: Place = at + by if isinstance(at, int) else (at[0], at[1] + by)
            if to not in plan and 0 <= (to if isinstance(to, int) else to[1]) < length:
                yield Plan({**others, to: plan[at]})


def _afresh(ways: Sequence[tuple[Place, Step]], deviations: int) -> Iterator[Plan]:
    """Every plan of so few deviations, made of these."""
    for chosen in combinations(ways, deviations):
        plan = Plan(chosen)
        if len(plan) == deviations:
            yield plan


def _ways(choices: Choices) -> list[tuple[Place, Step]]:
    """Every single deviation, as far as this run shows what is possible."""
    ways: list[tuple[Place, Step]] = []
    for (point, step), number in zip(choices, command_numbers(choices), strict=True):
        ways += [(point.position, option.step) for option in (*point.options, *point.early)]
        option = point.option_of(step)
        if option and point.sends(step):
            faults = [step._replace(mark=mark) for mark in option.faults]
            ways += [((step.actor, number), fault) for fault in sorted(faults, key=_simplicity)]
    return ways


def _simplicity(step: Step) -> int:
    return _SIMPLEST.index(step.mark)


def _in_order(plan: Plan) -> list[Place]:
    """Switches by position, then faults."""
    return sorted(plan, key=lambda at: (0, at, 0) if isinstance(at, int) else (1, *at))
