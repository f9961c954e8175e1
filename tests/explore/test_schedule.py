"""schedule.py: schedules are written and read back the same, and bad ones are refused with the place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_redisq.explore.footprint import NOTHING
from pytest_redisq.explore.schedule import ChoicePoint, EnabledStep, Schedule, Step, StepKind, kinds_by_actor, run_on

steps = st.builds(Step, st.integers(0, 25), st.sampled_from(StepKind), st.integers(0, 30))


@given(st.lists(steps, max_size=30))
def test_a_schedule_survives_being_written(chosen: list[Step]) -> None:
    """Every schedule is its text, with or without blanks between its steps."""
    schedule = Schedule(chosen)
    assert Schedule.parse(str(schedule)) == schedule
    assert Schedule.parse(" ".join(map(str, schedule))) == schedule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab", "not a schedule: 'ab' has 'a' at position 1, where an actor's letter (A to Z) was expected"),
        ("AA-B", "not a schedule: 'AA-B' has '-' at position 3, where an actor's letter (A to Z) was expected"),
        ("AjB", "not a schedule: 'AjB' has the unknown step kind 'j'; the kinds are t (time), n (notice), "),
    ],
)
def test_a_bad_schedule_is_refused_with_the_place(text: str, message: str) -> None:
    """What, where, and what there is instead."""
    with pytest.raises(ValueError) as refused:
        Schedule.parse(text)
    assert str(refused.value).startswith(message)


def test_the_default_choice_keeps_the_previous_actor() -> None:
    """The actor of the step before goes on; if it cannot, the first by letter."""
    enabled_steps = tuple(EnabledStep(actor=actor, footprint=NOTHING) for actor in (0, 1, 2))
    assert run_on(ChoicePoint(position=1, enabled_steps=enabled_steps, previous=1)) == Step(1)
    assert run_on(ChoicePoint(position=1, enabled_steps=enabled_steps, previous=5)) == Step(0)
    assert run_on(ChoicePoint(position=0, enabled_steps=enabled_steps)) == Step(0)


def test_only_what_is_a_fault_costs() -> None:
    """A command and a wait that is due are free; a marked command and a wait ended early are not."""
    command = EnabledStep(actor=0, footprint=NOTHING, faults=(StepKind.LOSE_REPLY,))
    early = EnabledStep(actor=1, footprint=NOTHING, kind=StepKind.TIME, faults=(StepKind.TIME,))
    point = ChoicePoint(position=0, enabled_steps=(command,), early=(early,))
    ways = [Step(0), Step(0, StepKind.LOSE_REPLY), Step(1, StepKind.TIME), Step(0, StepKind.KILL_BEFORE)]
    assert [point.enabled_step(step) for step in ways] == [command, command, early, None]
    assert [point.costs(step) for step in ways[:3]] == [False, True, True]


def test_faults_can_be_asked_for_by_actor() -> None:
    """Names, as text or as a sequence, each for all actors or one."""
    assert kinds_by_actor("") == {}
    assert kinds_by_actor(["kill:worker", "lost-reply"]) == {
        "worker": {StepKind.KILL_BEFORE, StepKind.KILL_AFTER},
        "": {StepKind.LOSE_REPLY},
    }
