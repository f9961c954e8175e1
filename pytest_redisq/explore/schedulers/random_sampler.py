"""Draws schedules at random, without replacement, from all schedules of a scenario."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_redisq.explore.equivalence import (
    check_same,
)
from pytest_redisq.explore.schedule import ChoicePoint, Step
from pytest_redisq.explore.schedulers.scheduler import Scheduler


@dataclass(slots=True)
class _ScheduleTree:
    """The schedules with the same first steps: the choice point after those, and the next steps that are not
    exhausted.
    """

    point: ChoicePoint | None = None  # not reached yet, or the execution ends here
    left: dict[Step, _ScheduleTree] = field(default_factory=dict)

    def reach(self, point: ChoicePoint) -> None:
        """Raises `EnabledStepsChangedError` where the same steps have led elsewhere before."""
        if self.point is not None:
            check_same(self.point, point)
            return
        self.point = point
        ways = [way for enabled in (*point.enabled_steps, *point.early) for way in (enabled.step, *enabled.faulty())]
        self.left = {way: _ScheduleTree() for way in ways}


class RandomSampler:
    """A scheduler that draws from all schedules, without replacement and without any reduction.

    `begin` an execution with a guide, whose choices are followed while they lead to a new schedule, and `end` it. Law:
    `exhausted` is true exactly when every schedule has been executed.
    """

    def __init__(self) -> None:
        self._root = _ScheduleTree()
        self._path: list[_ScheduleTree] = []
        self._steps: list[Step] = []
        self._new: list[_ScheduleTree] = []  # reached for the first time by this execution
        self._guide: Scheduler | None = None
        self.exhausted: bool = False

    def begin(self, guide: Scheduler) -> RandomSampler:
        """Start an execution that follows `guide`."""
        self._guide = guide
        return self

    def again(self) -> None:
        """Forget the parts of the execution that were new: it is repeated, and may go another way there."""
        for branch in self._new:
            branch.point, branch.left = None, {}

    def choose(self, point: ChoicePoint) -> Step:
        """The guide's choice, or another one if everything behind that choice is exhausted.

        Raises `EnabledStepsChangedError` where the same steps have led elsewhere before.
        """
        assert self._guide is not None
        if point.position == 0:
            self._path, self._steps, self._new = [self._root], [], []
        branch = self._path[-1]
        if branch.point is None:
            self._new.append(branch)
        branch.reach(point)
        step = self._guide.choose(point)
        if step not in branch.left:
            step = next(iter(branch.left))
        self._steps.append(step)
        self._path.append(branch.left[step])
        return step

    def end(self) -> None:
        """Mark the schedule as executed, with all branches that this exhausts."""
        while self._steps:
            if self._path.pop().left:
                return
            del self._path[-1].left[self._steps.pop()]
        self.exhausted = not self._root.left
