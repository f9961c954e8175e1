"""When two schedules are equivalent: they differ only in the order of steps that do not conflict.

Such schedules are one Mazurkiewicz trace: they lead to the same replies and the same data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from pytest_redisq.explore.footprint import Footprint
from pytest_redisq.explore.schedule import ChoicePoint, Step, StepKind

#: Where a step comes from: the actor, its connection number, and whether time passes.
StepSource: TypeAlias = tuple[int, int, bool]


def source_of(step: Step) -> StepSource:
    return step.actor, step.connection, step.kind is StepKind.TIME


class StepEffect(NamedTuple):
    """What a step did: its footprint, and the actors whose blocked commands it ended."""

    footprint: Footprint
    woken: tuple[int, ...] = ()


#: The same for schedules that differ only in the order of independent steps.
EquivalenceKey: TypeAlias = frozenset[object]


def equivalence_key(choices: Sequence[tuple[ChoicePoint, Step]], last: StepEffect) -> EquivalenceKey:
    """The steps of an execution, and for each two that conflict which came first. Equivalent schedules have the same
    key.

    `last` is the effect of the last step.
    """
    effects = [*(StepEffect(point.effect, point.woken) for point, _ in choices[1:]), last]
    events = [step_record(point, step, effect) for (point, step), effect in zip(choices, effects, strict=False)]
    seen: dict[Step, int] = {}
    names: list[tuple[Step, int]] = []
    for _, step in choices:
        seen[step] = seen.get(step, 0) + 1
        names.append((step, seen[step]))
    pairs = {
        (names[earlier], names[later])
        for later, two in enumerate(events)
        for earlier, one in enumerate(events[:later])
        if one.actors & two.actors or one.footprint.conflicts(two.footprint)
    }
    return frozenset([*names, *pairs])


class EnabledStepsChangedError(Exception):
    """The same choices led to other enabled steps than before: something is outside the schedule's control."""

    def __init__(self, position: int, before: ChoicePoint, now: ChoicePoint) -> None:
        was, has = (", ".join(str(enabled.step) for enabled in point.enabled_steps) for point in (before, now))
        super().__init__(f"after the same {position} steps {has} can go next, but it was {was} the first time")
        self.position = position


def check_same(before: ChoicePoint, now: ChoicePoint) -> None:
    if [enabled.step for enabled in before.enabled_steps] != [enabled.step for enabled in now.enabled_steps]:
        raise EnabledStepsChangedError(before.position, before, now)


class StepRecord(NamedTuple):
    """An executed step: its source, the actors that took part (it and those it woke), and what it touched."""

    source: StepSource
    actors: frozenset[int]
    footprint: Footprint


def step_record(point: ChoicePoint, step: Step, effect: StepEffect) -> StepRecord:
    enabled = point.enabled_step(step)
    footprint = enabled.footprint if enabled else point.effect
    return StepRecord(source_of(step), frozenset([step.actor, *effect.woken]), footprint | effect.footprint)
