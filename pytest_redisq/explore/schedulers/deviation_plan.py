"""A schedule as its deviations from the default choices: what the shrinker works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from pytest_redisq.explore.schedule import ChoicePoint, Step, StepKind, run_on

#: A place in a plan: a position in the run, or (for a fault) an actor and which of its commands, from 0.
PlanPosition: TypeAlias = int | tuple[int, int]


class DeviationPlan(dict[PlanPosition, Step]):
    """A schedule as its deviations from the default choices.

    A switch has a position in the execution. A fault has an actor and the number of its command, so that it stays with
    the command while switches come and go.
    """

    __slots__ = ()

    @classmethod
    def of(cls, choices: Sequence[tuple[ChoicePoint, Step]]) -> DeviationPlan:
        """The deviations of a run."""
        plan = cls()
        for (point, step), number in zip(choices, command_numbers(choices), strict=True):
            plain = step._replace(kind=StepKind.RUN) if point.sends(step) else step
            if plain != run_on(point):
                plan[point.position] = plain
            if plain != step:
                plan[step.actor, number] = step
        return plan


def command_numbers(choices: Sequence[tuple[ChoicePoint, Step]]) -> list[int]:
    """For each step, how many commands its actor has sent before."""
    counts: dict[int, int] = {}
    numbers = []
    for point, step in choices:
        numbers.append(counts.setdefault(step.actor, 0))
        counts[step.actor] += point.sends(step)
    return numbers
