"""An exploration passes only where schedules could change something, and its line says what it rests on."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pytest_redisq.errors import ScheduleError
from pytest_redisq.explore import Schedule, World, explore, queue_scenario
from pytest_redisq.facade import Redisq
from pytest_redisq.queues import BlockingList
from tests.explore import thorough

Client = Any
pytestmark = thorough.TIME


class Orders:
    """A queue, for an exploration whose contract was forgotten."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush("orders", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        popped = self.client.blpop(["orders"], timeout_seconds)
        return popped[1] if popped else None


class WrongList(Orders):
    """The saboteur: takes from a list to which nothing is ever pushed."""

    def get(self, timeout_seconds: float) -> bytes | None:
        popped = self.client.blpop(["others"], timeout_seconds)
        return popped[1] if popped else None


class Loses(Orders):
    """The saboteur: says that it has put a message, and has only looked at its list."""

    def put(self, body: bytes) -> None:  # noqa: ARG002
        self.client.llen("orders")


def make_orders(client: Client) -> Orders:
    return Orders(client)


def increment(client: Client) -> None:
    client.incr("n")


def len_of_actors(world: World) -> int:
    return len(world.actors)


def counted(world: World) -> None:
    for _ in range(3):
        world.actor(increment)
    world.run()


@pytest.mark.parametrize("queue", [Orders, make_orders, BlockingList("orders")], ids=["class", "function", "bound"])
def test_a_queue_without_its_contract_is_refused(redisq: Redisq, queue: Any) -> None:
    with pytest.raises(TypeError, match=r'is a queue, and no contract was given.*contract="at-least-once"'):
        redisq.explore(queue)


def test_a_scenario_without_an_actor_proves_nothing(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError, match="unknown: the scenario has no actor"):
        redisq.explore(len_of_actors, schedules=2)


def test_actors_that_send_no_command_prove_nothing(redisq: Redisq) -> None:
    def scenario(world: World) -> None:
        fake = world.actor(id, name="fake")
        world.run()
        assert fake.result

    with pytest.raises(ScheduleError, match="unknown: no command of fake went through the proxy"):
        redisq.explore(scenario, schedules=2)


def test_an_actor_that_sends_no_command_is_named(redisq: Redisq) -> None:
    def scenario(world: World) -> None:
        world.actor(increment, name="counter")
        world.actor(id, name="idler")
        world.run()

    assert "idler sent no command" in str(redisq.explore(scenario, schedules=2))


def test_a_queue_that_delivers_in_no_schedule_is_unknown(url: str) -> None:
    """No schedule breaks at-most-once; all of them together prove nothing."""
    wrong = explore(queue_scenario(WrongList, "at-most-once"), url=url, schedules=4)
    assert (wrong.outcome, wrong.reasons) == ("unknown", ("no message was delivered in any schedule",))
    right = explore(queue_scenario(Orders, "at-most-once"), url=url, schedules=4)
    assert right.outcome == "pass"
    assert "12 messages acknowledged, 12 delivered" in str(right)


def test_faults_that_strike_in_no_schedule_make_it_unknown(url: str) -> None:
    """The only actor is fault-free, so that no fault can strike."""

    def scenario(world: World) -> None:
        world.actor(increment, fault_free=True)
        world.run()

    exploration = explore(scenario, url=url, faults="kill", schedules=4)
    assert exploration.reasons == ("no fault struck in any schedule: allow more schedules, or other faults",)
    given = explore(scenario, url=url, faults="kill", schedules=1, first=[Schedule.parse("A")])
    assert given.outcome == "pass", "a schedule that is given has the faults that it has"


def test_where_faults_struck_is_told(url: str) -> None:
    """Of each fault by itself; and at which commands it did not."""
    whole = explore(counted, url=url, faults="lost-reply", exhaustive=True)
    assert whole.outcome == "pass"
    assert "lost-reply struck at 3 of 3 places" in str(whole)
    assert "never" not in str(whole)
    part = explore(counted, url=url, faults="lost-reply, kill", exhaustive=True, schedules=3)
    assert re.search(r"kill-after struck at \d of 3 places.*, kill-before struck .*, lost-reply struck", str(part))
    assert re.search(r"never at .*step 1 of [ABC] increment \(INCRBY n 1\)", str(part))


def test_an_exhaustive_search_cut_short_says_so(url: str) -> None:
    cut = explore(counted, url=url, exhaustive=True, schedules=2)
    assert (cut.complete, cut.cut_short) == (False, True)
    assert str(cut).startswith("2 schedules hold; stopped by schedules=2, so these are not all (")
    assert cut.verify() is cut
    with pytest.raises(ScheduleError, match="unknown: 2 schedules hold; stopped by schedules=2, so these are not all"):
        cut.verify(strict=True)
    whole = explore(counted, url=url, exhaustive=True)
    assert (whole.complete, whole.cut_short) == (True, False)
    assert whole.verify(strict=True) is whole


@pytest.mark.server
@pytest.mark.parametrize(("strict", "outcome"), [("yes", "failed"), ("no", "passed")])
def test_strictness_is_an_option(pytester: pytest.Pytester, strict: str, outcome: str) -> None:
    pytester.makepyfile(
        """
        def test_it(redisq):
            def scenario(world):
                for _ in range(3):
                    world.actor(lambda client: client.incr("n"))
                world.run()
            redisq.explore(scenario, exhaustive=True, schedules=2)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:asyncio", f"--redisq-strict={strict}")
    result.assert_outcomes(**{outcome: 1})


def test_a_broken_contract_is_told_in_the_first_line(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError, match=r"\Aat-least-once broken: 3 lost.*; schedule 1 fails; the shortest"):
        redisq.explore(Loses, contract="at-least-once", schedules=2)
