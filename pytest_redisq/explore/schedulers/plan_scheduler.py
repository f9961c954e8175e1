"""Follows a plan of deviations, as far as it is possible."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_redisq.explore.schedule import ChoicePoint, Step, run_on
from pytest_redisq.explore.schedulers.deviation_plan import PlanPosition


class PlanScheduler:
    """Makes the default choices, except for the plan's deviations. One that is not possible is skipped."""

    def __init__(self, plan: Mapping[PlanPosition, Step]) -> None:
        self._plan = plan
        self._counts: dict[int, int] = {}

    def choose(self, point: ChoicePoint) -> Step:
        """The planned step if possible, else the default; with the fault that is planned for its command."""
        if point.position == 0:  # again from the start, where the clients had to load their scripts
            self._counts.clear()
        step = self._plan.get(point.position)
        if step is None or not point.enabled_step(step):
            step = run_on(point)
        if not point.sends(step):
            return step
        number = self._counts.get(step.actor, 0)
        self._counts[step.actor] = number + 1
        fault = self._plan.get((step.actor, number))
        if fault is not None:
            marked = step._replace(kind=fault.kind)
            return marked if point.enabled_step(marked) else step
        return step
