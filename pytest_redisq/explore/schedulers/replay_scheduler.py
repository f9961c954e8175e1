"""Replays a schedule exactly."""

from __future__ import annotations

from pytest_redisq.explore.schedule import ChoicePoint, Schedule, Step, run_on


class DivergedError(Exception):
    """A step of the schedule is not enabled: the execution differs from the recorded one."""

    def __init__(self, step: Step, point: ChoicePoint) -> None:
        enabled_steps = ", ".join(str(enabled.step) for enabled in point.enabled_steps)
        super().__init__(f"step {point.position + 1} should be {step}, but only {enabled_steps} can go next")
        self.step = step
        self.position: int = point.position


class ReplayScheduler:
    """Follows a schedule exactly; after its end, the default choices."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def choose(self, point: ChoicePoint) -> Step:
        """The schedule's step.

        Raises `DivergedError` where it is not possible.
        """
        if point.position >= len(self._schedule):
            return run_on(point)
        step = self._schedule[point.position]
        if not point.enabled_step(step):
            raise DivergedError(step, point)
        return step
