"""Runs every schedule of a small scenario, except those that only swap neighbouring commands that do not conflict.

Law: of each set of schedules that differ only in the order of independent commands at least one is executed. So if all
executed schedules hold, all schedules hold. Faults multiply each step by the ways in which it may fail.

Source sets and sleep sets: P. Abdulla et al., "Optimal Dynamic Partial Order Reduction", POPL 2014, algorithm 1.
Blocked commands fit in: the step that wakes one acts for both actors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_redisq.explore.equivalence import (
    StepEffect,
    StepRecord,
    StepSource,
    check_same,
    source_of,
    step_record,
)
from pytest_redisq.explore.footprint import NOTHING, ON_RECORD, Footprint
from pytest_redisq.explore.schedule import OF_THE_SERVER, ChoicePoint, EnabledStep, Step, StepKind, run_on


@dataclass(slots=True)
class _Node:
    """A choice point on the current path, with what is done and what is still to do there."""

    point: ChoicePoint
    step: Step
    #: Step sources that need not go first here: every way has been explored, here or in an equivalent schedule.
    sleep: dict[StepSource, Footprint]
    backtrack: set[StepSource]
    #: Faulty variants of `step` that are still to do.
    variants: list[Step] = field(default_factory=list)
    #: What the step, in any variant, did to the history beside what its command touches.
    recorded: Footprint = NOTHING

    def choose(self, enabled: EnabledStep) -> None:
        self.step, self.recorded = enabled.step, NOTHING
        self.variants = enabled.faulty()

    def sources(self) -> dict[StepSource, EnabledStep]:
        return {source_of(enabled.step): enabled for enabled in (*self.point.enabled_steps, *self.point.early)}


class ExhaustiveScheduler:
    """The scheduler of all executions of a search, until `advance` returns False."""

    def __init__(self) -> None:
        self._path: list[_Node] = []
        self._effects: list[StepEffect] = []  # of the step of each node of the path: the point behind it tells
        self._cut = False
        self._known = 0  # how much of the path is older than the run
        #: Executions that turned out to be equivalent to earlier ones.
        self.redundant: int = 0

    def again(self) -> None:
        """Forget the new part of the path: the execution is repeated, and may go another way there."""
        del self._path[self._known :]
        self._cut = False

    def choose(self, point: ChoicePoint) -> Step:
        """The step of the path, or how the path goes on.

        Raises `EnabledStepsChangedError` where the path's own steps lead elsewhere this time.
        """
        if point.position == 0:
            self._known = len(self._path)
        if 0 < point.position <= len(self._path) and not self._cut:
            del self._effects[point.position - 1 :]
            self._effects.append(StepEffect(point.effect, point.woken))
        if point.position < len(self._path):
            node = self._path[point.position]
            check_same(node.point, point)
            return node.step
        return run_on(point) if self._cut else self._extend(point)

    def _extend(self, point: ChoicePoint) -> Step:
        # A fault of the server strikes the commands of all actors. An actor that had none left does not appear behind
        # it, so no race shows that it could have come first. While such a fault is possible, nothing can be skipped.
        fatal = any(kind in OF_THE_SERVER for enabled in point.enabled_steps for kind in enabled.faults)
        sleep = {} if fatal else self._inherited_sleep(point)
        awake = [enabled for enabled in point.enabled_steps if source_of(enabled.step) not in sleep]
        if not awake:
            self._cut = True
            return run_on(point)
        default = run_on(point)
        first = next((enabled for enabled in awake if enabled.step == default), awake[0])
        node = _Node(point, first.step, sleep, {source_of(first.step)})
        # A wait that ends early conflicts with everything: no reduction is possible.
        node.backtrack.update(source_of(enabled.step) for enabled in (point.enabled_steps if fatal else ()))
        node.backtrack.update(source_of(enabled.step) for enabled in point.early)
        node.choose(first)
        # Nor where waits end because no actor can run: a step before such a wait seems to be its cause, so no race
        # shows that the wait could have ended first. Nor where the server notices that a client has gone: a step that
        # serves the client's command leaves nothing to notice, so there is no race.
        node.backtrack.update(
            source_of(enabled.step) for enabled in point.enabled_steps if enabled.kind is not StepKind.RUN
        )
        self._path.append(node)
        return node.step

    def _inherited_sleep(self, point: ChoicePoint) -> dict[StepSource, Footprint]:
        if not self._path:
            return {}
        parent = self._path[-1]
        acted = {parent.step.actor, *point.woken}
        return {
            source: footprint
            for source, footprint in parent.sleep.items()
            if source[0] not in acted and not footprint.conflicts(point.effect)
        }

    def advance(self, last: StepEffect) -> bool:
        """Take the finished run into account and turn to the next; False when every schedule is covered.

        `last` is what the run's last step did.
        """
        if len(self._effects) < len(self._path):
            self._effects.append(last)
        self.redundant += self._cut
        self._cut = False
        self._plan_reversals()
        for node, effect in zip(self._path, self._effects, strict=True):
            if effect.footprint.writes >= ON_RECORD.writes:
                node.recorded = ON_RECORD
        self._effects.clear()
        while self._path:
            node = self._path[-1]
            if node.variants:
                node.step = node.variants.pop(0)
                return True
            enabled_steps = node.sources()
            done = source_of(node.step)
            node.sleep[done] = enabled_steps[done].footprint | node.recorded
            remaining = sorted(node.backtrack - node.sleep.keys())
            if remaining:
                node.choose(enabled_steps[remaining[0]])
                return True
            self._path.pop()
        return False

    def _plan_reversals(self) -> None:
        """For each race, see to it that the later of the two will also be tried first."""
        events = [
            step_record(node.point, node.step, effect) for node, effect in zip(self._path, self._effects, strict=True)
        ]
        before = [0] * len(events)
        for earlier, later in _races(events, before):
            node = self._path[earlier]
            follow = [at for at in range(earlier + 1, later) if not before[at] >> earlier & 1]
            initials = list(_initials(events, before, [*follow, later]))
            if any(source in node.backtrack or source in node.sleep for source in initials):
                continue
            source = events[later].source if events[later].source in initials else initials[0]
            enabled_steps = node.sources()
            if source in enabled_steps:
                node.backtrack.add(source)
            elif not source[2]:  # a wait that ends because no actor can run could not have ended sooner
                node.backtrack.update(source_of(enabled.step) for enabled in node.point.enabled_steps)


def _races(events: list[StepRecord], before: list[int]) -> Iterator[tuple[int, int]]:
    """Pairs of conflicting events with nothing between them that orders them. `before` becomes, per event, the bit set
    of the events that happen before it."""
    for later, event in enumerate(events):
        for earlier in range(later - 1, -1, -1):
            if before[later] >> earlier & 1:
                continue
            other = events[earlier]
            same = event.source[0] in other.actors
            if same or event.footprint.conflicts(other.footprint):
                before[later] |= before[earlier] | 1 << earlier
                two_connections = event.source[0] == other.source[0] and event.source[1] != other.source[1]
                if not same or two_connections:
                    yield earlier, later


def _initials(events: list[StepRecord], before: list[int], sequence: list[int]) -> Iterator[StepSource]:
    """The sources that could begin `sequence`: their first event there waits for no other event of it."""
    for at in sequence:
        if not any(before[at] >> other & 1 for other in sequence if other < at):
            yield events[at].source
