"""Draws schedules at random, without replacement, from all that there are."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_redisq.explore.equivalence import (
    check_same,
)
from pytest_redisq.explore.schedule import ChoicePoint, Step
from pytest_redisq.explore.schedulers.scheduler import Scheduler


@dataclass(slots=True)
class _ScheduleTree:
    """The schedules that begin in one way: where that leads to, and the next steps behind which some are left."""

    point: ChoicePoint | None = None  # nobody has been there, or all ends there
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
    """Schedules by lot, out of all there are without any reduction, and no two of them the same: a chooser.

    `begin` a run with the chooser whose choices are followed as far as they lead to a schedule that was not run yet,
    and `end` it. Law: `exhausted` is true exactly when all schedules that there are have been run.
    """

    def __init__(self) -> None:
        self._root = _ScheduleTree()
        self._path: list[_ScheduleTree] = []
        self._steps: list[Step] = []
        self._new: list[_ScheduleTree] = []  # where the run was the first to come
        self._guide: Scheduler | None = None
        self.exhausted = False

    def begin(self, guide: Scheduler) -> RandomSampler:
        self._guide = guide
        return self

    def again(self) -> None:
        """The run is to be done again, and may go another way where it was the first to come: forget that."""
        for branch in self._new:
            branch.point, branch.left = None, {}

    def choose(self, point: ChoicePoint) -> Step:
        """The guide's choice, or another where nothing is left behind that.

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
        """The run was the last one behind its last step, and perhaps behind those before."""
        while self._steps:
            if self._path.pop().left:
                return
            del self._path[-1].left[self._steps.pop()]
        self.exhausted = not self._root.left
