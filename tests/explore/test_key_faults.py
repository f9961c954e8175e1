"""The faults `evict` and `group-gone`: what a command works on disappears just before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import redis

from pytest_redisq.explore import World, explore, queue_scenario, replay
from tests.explore import thorough
from tests.explore.test_faults import lock_and_write, lock_and_write_if_still_mine, locking

Client = Any
pytestmark = thorough.TIME


def test_a_lock_that_is_evicted_protects_nothing(url: str) -> None:
    """The correct twin looks at the lock in the step in which it writes."""
    failure = explore(locking(lock_and_write), url=url, schedules=100, faults="evict").failure
    assert failure
    assert "key evicted before" in failure.explain()
    explore(locking(lock_and_write_if_still_mine), url=url, schedules=60, faults="evict").verify()


class Delivery(NamedTuple):
    """A message and its entry."""

    body: bytes
    number: bytes


class Group:
    """The saboteur: a group that is gone is made again at the end of the stream."""

    start = "$"

    def __init__(self, client: Client) -> None:
        self.client = client
        self.make("0")

    def make(self, start: str) -> None:
        try:
            self.client.xgroup_create("jobs", "workers", id=start, mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def put(self, body: bytes) -> None:
        self.client.xadd("jobs", {"body": body})

    def get(self, timeout_seconds: float) -> Delivery | None:
        try:
            found = self.client.xreadgroup("workers", "one", {"jobs": ">"}, count=1, block=int(timeout_seconds * 1000))
        except redis.ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            self.make(self.start)
            return None
        if not found:
            return None
        ((_, [(number, fields)]),) = found
        return Delivery(fields[b"body"], number)

    def ack(self, delivery: Delivery) -> None:
        self.client.xack("jobs", "workers", delivery.number)


class GroupFromTheStart(Group):
    """The correct twin: it delivers again rather than not at all."""

    start = "0"


def test_a_consumer_group_that_is_gone_is_made_again_from_the_start(url: str) -> None:
    def scenario_of(queue: Any) -> Callable[[World], None]:
        whole: Callable[[World], None] = queue_scenario(queue, "at-least-once", consumers=1, messages=2)
        return whole

    failure = explore(scenario_of(Group), url=url, schedules=200, faults="group-gone").failure
    assert failure
    assert "group destroyed before" in failure.explain()
    explore(scenario_of(GroupFromTheStart), url=url, schedules=60, faults="group-gone").verify()


def test_a_consumer_that_is_blocked_notices_that_its_group_is_gone(url: str) -> None:
    """As on a server: another client's command destroys the group."""

    def reads(client: Client) -> str:
        try:
            client.xreadgroup("workers", "two", {"jobs": ">"}, block=0)
        except redis.ResponseError as error:
            return str(error)
        return ""

    def scenario(world: World) -> None:
        world.redis.xgroup_create("jobs", "workers", mkstream=True)
        blocked = world.actor(reads)
        world.actor(lambda client: client.xpending("jobs", "workers"), name="other")
        world.run()
        assert "group" in blocked.result

    execution = replay(scenario, "ABu", url=url)
    assert execution.error is None, execution.table()


def look(client: Client) -> None:
    client.llen("jobs")
    client.xack("stream", "workers", "0-1")


def looking_at(key: str, group: str) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        world.redis.rpush(key, "job")
        world.redis.xgroup_create("stream", group, mkstream=True)
        world.actor(look)
        world.run()

    return scenario


@pytest.mark.parametrize("fault", ["evict", "group-gone"])
def test_a_fault_that_takes_something_away_has_struck(url: str, fault: str) -> None:
    exploration = explore(looking_at("jobs", "workers"), url=url, schedules=20, faults=fault)
    exploration.verify()
    places = 2 if fault == "evict" else 1
    assert f"{fault} struck at {places} of {places} places" in str(exploration)


def test_a_fault_that_finds_no_group_to_destroy_has_not_struck(url: str) -> None:
    exploration = explore(looking_at("jobs", "others"), url=url, schedules=20, faults="group-gone")
    assert exploration.outcome == "unknown"
    assert "no fault struck" in str(exploration)


def test_a_fault_that_finds_no_key_to_evict_has_not_struck(url: str) -> None:
    exploration = explore(looking_at("other", "workers"), url=url, schedules=20, faults="evict")
    assert "evict struck at 1 of 2 places" in str(exploration)


def test_the_table_tells_that_there_was_nothing_to_take_away(url: str) -> None:
    assert "⚡ no key to evict" in replay(looking_at("other", "workers"), "Ai", url=url).table()
    assert "⚡ no group to destroy" in replay(looking_at("other", "others"), "AAu", url=url).table()
    assert "⚡ key evicted before" in replay(looking_at("jobs", "workers"), "Ai", url=url).table()
