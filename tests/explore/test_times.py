"""The laws that compare times, under the explorer: each has a queue that breaks it, and a correct twin that holds.

An op of an actor ends and its next one begins at the same instant of virtual time, and yet one after the other.
"""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from pytest_redisq.check import AnomalyKind
from pytest_redisq.errors import DeliveryError
from pytest_redisq.explore import World, explore, queue_scenario, replay
from pytest_redisq.explore.scenario_runner import Scenario
from pytest_redisq.explore.virtual_time import RecordClock
from pytest_redisq.queues import BlockingList, ReliableList, Stream, StreamGroup
from tests import saboteurs
from tests.explore import thorough

Client = Any
pytestmark = thorough.TIME

LIST, RELIABLE = BlockingList("jobs"), ReliableList("jobs")
GROUP, STREAM = StreamGroup("jobs", "workers"), Stream("jobs", after="0")
#: By law: the saboteur, the queue that it sits in front of, the contract.
LAWS = [
    (AnomalyKind.REORDERED, saboteurs.Reorders, LIST, "at-most-once, fifo"),
    (AnomalyKind.REORDERED, saboteurs.Reorders, RELIABLE, "at-least-once, fifo"),
    (AnomalyKind.REORDERED, saboteurs.Reorders, GROUP, "at-least-once, fifo"),
    (AnomalyKind.REORDERED, saboteurs.Reorders, STREAM, "fan-out, fifo"),
    (AnomalyKind.NONMONOTONIC_POLL, saboteurs.Reorders, STREAM, "fan-out"),
    (AnomalyKind.POLL_SKIP, saboteurs.Drops, STREAM, "fan-out"),
    (AnomalyKind.FALSE_ACK, saboteurs.RedeliversAfterAck, GROUP, "at-least-once"),
]


def named(value: Any) -> str:
    """A test's id."""
    return value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)


def scenario_of(queue: Any, contract: str, *, is_late: bool = False) -> Scenario:
    """One consumer, and six messages, which are sent at once, or when the consumer has already looked for some."""

    def scenario(world: World) -> None:
        world.producer(queue, 6, after_seconds=5 if is_late else None)
        world.consumer(queue)
        world.verify(contract)

    return scenario


@pytest.mark.parametrize(("law", "saboteur", "queue", "contract"), LAWS, ids=named)
def test_each_law_that_compares_times_has_a_queue_that_breaks_it(
    url: str, law: AnomalyKind, saboteur: Any, queue: Any, contract: str
) -> None:
    failure = explore(scenario_of(saboteurs.Around(saboteur, queue), contract), url=url, schedules=20).failure
    assert failure
    assert isinstance(failure.error, DeliveryError)
    assert f"{law}: " in str(failure.error)


@pytest.mark.parametrize(("queue", "contract"), dict.fromkeys(law[2:] for law in LAWS), ids=named)
def test_the_correct_twin_holds(url: str, queue: Any, contract: str) -> None:
    twin = saboteurs.Around(saboteurs.Saboteur, queue)
    explore(scenario_of(twin, contract), url=url, schedules=thorough.schedules(20)).verify()


def test_what_came_after_a_readers_first_poll_is_its_due(url: str) -> None:
    """Only what was sent before that may have come too early for it: a late join, which is nothing bad."""
    dropping, right = (saboteurs.Around(which, STREAM) for which in (saboteurs.Drops, saboteurs.Saboteur))
    failure = explore(scenario_of(dropping, "fan-out", is_late=True), url=url, schedules=5).failure
    assert failure
    assert re.match(r"fan-out broken: 2 lost( \(.*?\))?, 1 poll-skip( \(.*?\))?\n", str(failure.error))
    explore(scenario_of(right, "fan-out", is_late=True), url=url, schedules=20).verify()


class Swaps:
    """The saboteur of the server's side: takes two neighbours, and hands the second out first."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.kept: bytes | None = None

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        if self.kept is not None:
            kept, self.kept = self.kept, None
            return kept
        popped = self.client.blpop(["jobs"], timeout_seconds)
        if popped is None:
            return None
        second: bytes | None = self.client.lpop("jobs")
        if second is not None:
            self.kept = popped[1]
        return second or popped[1]


def test_a_queue_that_swaps_neighbours_is_not_first_in_first_out(url: str) -> None:
    failure = explore(
        queue_scenario(Swaps, "at-least-once, fifo", consumers=1, messages=2), url=url, exhaustive=True, checks=0
    ).failure
    assert failure
    assert "1 reordered" in str(failure.error)


class Shards:
    """The saboteur of two keys: a producer's first two messages go to one list, the third to another."""

    def __init__(self, client: Client, key: str) -> None:
        self.client = client
        self.key = key
        self.sent = 0

    def put(self, body: bytes) -> None:
        self.sent += 1
        self.client.rpush("one" if self.sent <= 2 else "two", body)

    def get(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        body: bytes | None = self.client.lpop(self.key)
        return body


def test_an_exhaustive_search_swaps_ops_whose_times_count(url: str) -> None:
    """Their commands conflict in nothing: it is only when they ended that decides."""

    def one(client: Client) -> Shards:
        return Shards(client, "one")

    def two(client: Client) -> Shards:
        return Shards(client, "two")

    def scenario_under(contract: str) -> Scenario:
        def scenario(world: World) -> None:
            world.producer(one, 3)
            world.run()
            world.consumer(one)
            world.consumer(two)
            world.verify(contract)

        return scenario

    failure = explore(scenario_under("at-least-once, fifo"), url=url, exhaustive=True, checks=0).failure
    assert failure
    assert "1 reordered" in str(failure.error)
    explore(scenario_under("at-least-once"), url=url, exhaustive=True).verify()


@pytest.mark.nightly
@pytest.mark.parametrize("producers", [1, 2])
@pytest.mark.parametrize(
    ("queue", "contract"),
    [
        (LIST, "at-most-once, fifo"),
        (RELIABLE, "at-least-once, fifo"),
        (GROUP, "at-least-once, fifo"),
        (STREAM, "fan-out, fifo"),
    ],
    ids=["list", "reliable list", "group", "stream"],
)
def test_what_keeps_its_order_raises_no_false_alarm(url: str, queue: Any, contract: str, producers: int) -> None:
    """Two consumers overlap in all ways."""
    scenario = queue_scenario(queue, contract, producers=producers, consumers=2, messages=4)
    for seed in range(20):
        explore(scenario, url=url, seed=seed, schedules=thorough.schedules(4)).verify()


@pytest.mark.parametrize(
    ("queue", "contract"),
    [(RELIABLE, "at-least-once, fifo"), (GROUP, "at-least-once, fifo"), (STREAM, "fan-out, fifo")],
    ids=["reliable list", "group", "stream"],
)
def test_they_hold_under_every_schedule(url: str, queue: Any, contract: str) -> None:
    """Also where the server does not know their scripts yet."""

    def scenario(world: World) -> None:
        world.redis.script_flush()
        whole(world)

    whole = queue_scenario(queue, contract, consumers=1, messages=1)
    explore(scenario, url=url, schedules=1).verify()
    assert explore(whole, url=url, exhaustive=True).verify().complete


class Wakes(Swaps):
    """Puts one message per consumer at a time: several consumers go on after the same step."""

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", body, body)


def test_a_schedule_gives_the_same_record_each_time(url: str) -> None:
    """To the nanosecond, whichever thread comes first."""
    scenario = queue_scenario(Wakes, "at-most-once, fifo", consumers=2, messages=3)
    records = []
    for _ in range(5):
        error = replay(scenario, "BCAAA", url=url).error
        assert isinstance(error, DeliveryError)
        records.append(list(error.history))
    assert all(record == records[0] for record in records)
    stamps = [(op.actor, op.invoked_ns, op.ended_ns) for op in records[0]]
    assert len({stamp for _, *pair in stamps for stamp in pair}) == 2 * len(stamps)


def test_stamps_grow_on_each_thread_and_come_in_the_order_of_the_actors() -> None:
    """A thread with no place, the scenario's own, is read after all actors."""
    now = 0
    stamps = RecordClock(lambda: now, 2, 3_000)
    read: dict[int, list[int]] = {}

    def act(place: int) -> None:
        stamps.place = place
        read[place] = [stamps(), stamps()]

    for place in (1, 0):
        thread = threading.Thread(target=act, args=(place,))
        thread.start()
        thread.join()
    assert read == {0: [0, 1], 1: [1_000, 1_001]}
    assert stamps() == 2_000
    now = 1
    assert [stamps(), stamps()] == [2_001, 2_002]
    now = 3_000
    assert stamps() == 5_000
