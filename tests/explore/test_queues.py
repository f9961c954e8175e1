"""The supplied queues under the explorer, and the faults that their contracts cover: they hold, whatever the order."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from pytest_redisq.errors import RedisqError
from pytest_redisq.explore import World, explore, queue_scenario
from pytest_redisq.queues import BlockingList, ReliableList, Stream, StreamGroup, drain
from tests.explore import thorough

Client = Any
pytestmark = thorough.TIME

SCHEDULES = thorough.schedules(60)
QUEUES = {"reliable list": ReliableList("jobs"), "stream group": StreamGroup("jobs", "workers")}
#: Any actor may be killed, and any connection may fail.
FAULTS = [
    "kill:one",
    "lost-reply:one,lost-request:one,cut-reply:one",
    pytest.param("drop:one,pause:one,restart:server", marks=pytest.mark.slow),
    pytest.param("script-flush:server,timeout", marks=pytest.mark.slow),
]


def work(client: Client, queue: Any, name: str, pause_seconds: float) -> list[bytes]:
    """Do the jobs that are there, from `pause_seconds` on; what was done is what was acknowledged, and given back."""
    time.sleep(pause_seconds)
    done: list[bytes] = []
    with queue.bind(client, name) as end:
        while job := end.get(0):
            client.sadd("done", job.body)
            end.ack(job)
            done.append(job.body)
    return done


def put(client: Client, queue: Any) -> list[bytes]:
    sent: list[bytes] = []
    with queue.bind(client, "producer") as end:
        for job in (b"a", b"b"):
            end.put(job)
            sent.append(job)
    return sent


@pytest.mark.parametrize("queue", QUEUES.values(), ids=QUEUES)
@pytest.mark.parametrize("faults", FAULTS)
def test_every_job_is_done_at_least_once(url: str, queue: Any, faults: str) -> None:
    """One worker is killed or loses its connection at any moment; after its lease another gets what it left."""

    def scenario(world: World) -> None:
        producer = world.actor(put, queue, fault_free=True)
        world.run()
        world.actor(work, queue, "one", 0, name="one")
        world.actor(work, queue, "two", 0, name="two")
        world.actor(work, queue, "recovery", 100, name="recovery")
        world.run()
        assert world.redis.smembers("done") == set(producer.result)

    explore(scenario, url=url, schedules=SCHEDULES, faults=faults).verify()


CUTS = ["lost-reply,lost-request,cut-reply", "drop,pause,restart:server"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("queue", "contract", "faults"),
    [
        *((BlockingList("jobs"), "at-most-once, fifo", faults) for faults in ["kill", *CUTS]),
        *((Stream("jobs"), "fan-out, fifo", faults) for faults in CUTS),  # a reader that died is owed all the same
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BlockingList | Stream) else None,
)
def test_what_keeps_no_account_of_its_workers_holds_its_contract(
    url: str, queue: Any, contract: str, faults: str
) -> None:
    """A list may lose what a worker held, and doubles nothing; a reader of a stream gets all of it, once."""
    scenario = queue_scenario(queue, contract, producers=1, consumers=2, messages=2)
    explore(scenario, url=url, schedules=SCHEDULES, faults=faults).verify()


@pytest.mark.slow
@pytest.mark.parametrize("faults", FAULTS)
def test_a_list_is_drained_whole_if_one_of_two_drainers_stops(url: str, faults: str) -> None:
    """Only the messages that a worker held may come again."""

    def take(client: Client, pause_seconds: float) -> None:
        time.sleep(pause_seconds)
        with contextlib.suppress(
            RedisqError
        ):  # a worker that is silent for longer than its lease leaves the rest to the others
            for elements in drain(client, "jobs", chunk=1, lease_seconds=10):
                client.rpush("taken", *elements)

    def scenario(world: World) -> None:
        world.redis.rpush("jobs", "a", "b", "c")
        world.actor(take, 0, name="one")
        world.actor(take, 0, name="two")
        world.actor(take, 100, name="recovery")
        world.run()
        taken = world.redis.lrange("taken", 0, -1)
        assert set(taken) == {b"a", b"b", b"c"}
        assert len(taken) <= 4

    explore(scenario, url=url, schedules=SCHEDULES, faults=faults).verify()


def test_a_worker_that_acknowledges_first_is_caught(url: str) -> None:
    """The saboteur: the same queue, used wrongly, loses a job when its worker is killed."""
    queue = ReliableList("jobs")

    def careless(client: Client) -> None:
        with queue.bind(client, "one") as end:
            while job := end.get(0):
                end.ack(job)
                client.sadd("done", job.body)

    def scenario(world: World) -> None:
        world.redis.rpush("jobs", "a")
        world.actor(careless, name="one")
        world.actor(work, queue, "recovery", 100, name="recovery")
        world.run()
        assert world.redis.smembers("done") == {b"a"}

    failure = explore(scenario, url=url, schedules=300, faults="kill:one").failure
    assert failure
    assert failure.execution.events[-1].step.actor == 1
    assert isinstance(failure.error, AssertionError)
