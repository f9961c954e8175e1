"""Each property of the kit catches a broken queue that no other property catches; the right twin passes all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis.errors import Flaky

from pytest_redisq.check import Contract
from pytest_redisq.errors import ScheduleError
from pytest_redisq.facade import Redisq
from pytest_redisq.faults import Fault
from pytest_redisq.properties.kit_properties import KIT_PROPERTIES, Property
from pytest_redisq.properties.trial import Trial
from tests.conformance import broken
from tests.endpoint import orders

#: Which property catches which, alone.
CAUGHT = {
    "bodies": broken.TakesNothingForNone,
    "equal bodies": broken.Deduplicates,
    "backlog": broken.HasRoomForAHundred,
    "waiting": broken.NeverWaits,
    "prompt": broken.Naps,
    "stopping": broken.StopsLate,
    "over night": broken.ForgetsAfterAnHour,
    "stateful": broken.AcksTheOldest,
    "order": broken.LastInFirstOut,
    "explored": broken.LooksThenTakes,
    "sharing": broken.ThreeIsACrowd,
}
#: What is caught where many share and one fault strikes; without it, they share well.
CAUGHT_BY_FAULT: list[tuple[Fault, Any]] = [
    (Fault.parse("kill:consumer@50"), broken.AcksBeforeTheWork),
    (Fault.parse("kill-holding:consumer@50"), broken.AcksBeforeTheWork),
    (Fault.parse("kill-holding:consumer@50"), broken.GivesUpWhatItHeld),
    (Fault.parse("drop:connections@50"), broken.LosesItsPlace),
]
#: What real traffic finds too, if it has luck.
PERHAPS = {"explored": {"sharing"}, "backlog": {"order", "sharing"}}
BY_NAME = {kit_property.name: kit_property for kit_property in KIT_PROPERTIES}


def trial(
    redisq: Redisq, queue: Any, fault: Fault | None = None, messages: int = 150, workers: str = "thread"
) -> Trial:
    return Trial(
        queue=queue,
        redisq=redisq,
        contract=Contract.parse("at-least-once, fifo"),
        workers=workers,
        fault=fault,
        messages=messages,
        wait_seconds=0.1,
        settle_seconds=0.8,
    )


def holds(kit_property: Property, redisq: Redisq, queue: Any, fault: Fault | None = None, messages: int = 150) -> bool:
    try:
        with redisq.example():
            kit_property.holds(trial(redisq, queue, fault, messages))
    except (AssertionError, Flaky):
        return False
    return True


def test_every_law_has_its_broken_queue() -> None:
    assert set(CAUGHT) == {kit_property.name for kit_property in KIT_PROPERTIES}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_law_catches_its_broken_queue(redisq: Redisq, name: str) -> None:
    assert not holds(BY_NAME[name], redisq, CAUGHT[name])


@pytest.mark.parametrize(("fault", "queue"), CAUGHT_BY_FAULT, ids=str)
def test_a_fault_shows_what_does_not_show_without_it(redisq: Redisq, fault: Fault, queue: Any) -> None:
    sharing = BY_NAME["sharing"]
    assert holds(sharing, redisq, queue)
    # So many that, when it strikes, producers and consumers are in the middle of it, however late on a busy machine.
    assert not holds(sharing, redisq, queue, fault, messages=1_500)


@pytest.mark.slow
def test_of_coroutines_it_catches_the_same_and_lets_the_right_one_pass(redisq: Redisq) -> None:
    explored = BY_NAME["explored"]
    with pytest.raises(ScheduleError, match="1 duplicated"):
        explored.holds(trial(redisq, broken.LooksThenTakesAsync, workers="asyncio"))
    assert explored.holds(trial(redisq, broken.TakesAsync, workers="asyncio")) == 25


@pytest.mark.nightly
@pytest.mark.parametrize("name", CAUGHT)
def test_no_other_law_catches_it(redisq: Redisq, name: str) -> None:
    caught = {kit_property.name for kit_property in KIT_PROPERTIES if not holds(kit_property, redisq, CAUGHT[name])}
    assert caught - PERHAPS.get(name, set()) == {name}


@pytest.mark.parametrize("kit_property", KIT_PROPERTIES, ids=lambda kit_property: kit_property.name)
def test_the_right_twin_keeps_every_property(redisq: Redisq, kit_property: Property) -> None:
    kit_property.holds(trial(redisq, broken.Right))


@pytest.mark.parametrize("name", ["sharing", "explored"])
def test_a_queue_that_forgets_failed_work_is_caught(redisq: Redisq, name: str) -> None:
    """Its correct twin gives the message back."""
    hold = BY_NAME[name].holds
    with redisq.example(), pytest.raises(AssertionError, match="stuck"):
        hold(replace(trial(redisq, orders.Orders, messages=30), work=orders.fails, schedules=3))
    with redisq.example():
        hold(replace(trial(redisq, orders.GivesBack, messages=30), work=orders.fails, schedules=3))
