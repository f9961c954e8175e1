"""pause_monitor.py: a pause lasts until the leases have run out, and what repeats meanwhile does not count."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pytest_redisq.errors import DeliveryError
from pytest_redisq.explore import World, explore, queue_scenario, replay
from pytest_redisq.explore.pause_monitor import PauseMonitor
from pytest_redisq.faults import EXPLORE_FAULTS
from pytest_redisq.queues import BlockingList, ReliableList, Stream, StreamGroup
from tests.explore import thorough

Client = Any
pytestmark = thorough.TIME

QUEUES = {
    "list": (BlockingList("jobs"), "at-most-once"),
    "reliable list": (ReliableList("jobs", lease_seconds=1), "at-least-once"),
    "reliable list, long lease": (ReliableList("jobs"), "at-least-once"),
    "group": (StreamGroup("jobs", "workers", claim_idle_seconds=1), "at-least-once"),
    "stream": (Stream("jobs"), "fan-out"),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "tasks"])
@pytest.mark.parametrize("queue", [QUEUES["reliable list"][0], QUEUES["group"][0]], ids=["list", "group"])
def test_heartbeats_during_a_pause_are_no_run_without_an_end(url: str, queue: Any, is_async: bool) -> None:
    """The lease is short, the pause long: thousands of heartbeats would fit into it."""
    scenario = queue_scenario(queue, "at-least-once", messages=2, is_async=is_async)
    for seed in range(3):
        explore(scenario, url=url, seed=seed, faults="pause", schedules=thorough.schedules(4)).verify()


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "tasks"])
@pytest.mark.parametrize("faults", [*EXPLORE_FAULTS, "pause,kill,drop"])
@pytest.mark.parametrize(("queue", "contract"), QUEUES.values(), ids=QUEUES)
def test_no_fault_makes_a_run_of_a_supplied_queue_endless(
    url: str, queue: Any, contract: str, faults: str, is_async: bool
) -> None:
    """Whether its contract covers the fault or not, each run comes to an end, and no actor waits in vain."""
    whole = queue_scenario(queue, contract, messages=2, is_async=is_async)

    def scenario(world: World) -> None:
        try:
            whole(world)
        except DeliveryError:
            return

    for seed in range(20):
        result = explore(scenario, url=url, seed=seed, faults=faults, max_faults=2, schedules=thorough.schedules(4))
        assert result.failure is None  # not every fault can strike each queue


def test_a_pause_ends_once_the_leases_have_run_out(url: str) -> None:
    """Not before: the poller, whose own lock is never in danger, has taken what the paused actor held."""
    beats: list[float] = []

    def hold(client: Client) -> None:
        client.set("lock", "held", px=1_000)
        client.rpush("log", "back")

    def poll(world: World) -> Callable[[Client], None]:
        def poll_(client: Client) -> None:
            while not client.llen("log"):
                if client.set("lock", "taken", nx=True):
                    client.set("taken", 1)
                beats.append(world.now)
                time.sleep(0.1)

        return poll_

    def scenario(world: World) -> None:
        beats.clear()
        world.actor(hold)
        world.actor(poll(world))
        world.run()
        assert world.redis.exists("taken")
        assert 2 <= max(beats) < 10

    assert replay(scenario, "AAp", url=url).error is None


def repeated(pause_monitor: PauseMonitor, steps: int) -> PauseMonitor:
    for number in range(steps):
        pause_monitor.note(1, (b"ZADD", b"beats", b"%d" % number, b"me"), b":0\r\n")
    return pause_monitor


def test_heartbeats_that_tell_the_time_repeat_themselves() -> None:
    pause_monitor = PauseMonitor()
    pause_monitor.begin(5.0)
    assert repeated(pause_monitor, 61).uncounted == 60
    assert [pause_monitor.is_enough(now, 1.0) for now in (5.0, 6.9, 7.0)] == [False, False, True]
    assert not pause_monitor.is_enough(90.0, 0.0)
    assert repeated(pause_monitor, 240).is_enough(5.0, 0.0)
    assert not pause_monitor.is_enough(90.0, 3_600.0)
    assert repeated(pause_monitor, 2_700).is_enough(90.0, 3_600.0)


def test_what_is_new_goes_on() -> None:
    pause_monitor = PauseMonitor()
    pause_monitor.begin(0.0)
    repeated(pause_monitor, 301)
    pause_monitor.note(1, (b"LPOP", b"jobs"), b"$1\r\na\r\n")
    assert not pause_monitor.is_enough(90.0, 0.0)
    assert pause_monitor.uncounted == 300
