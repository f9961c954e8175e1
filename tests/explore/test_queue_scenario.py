"""queue_scenario.py, delivery_recorder.py: queues of every form under the explorer, judged by the checker."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pytest_redisq.errors import DeliveryError, RedisqError, ScheduleError
from pytest_redisq.explore import World, explore, queue_scenario, replay
from pytest_redisq.facade import Redisq
from pytest_redisq.queues import BlockingList, ReliableList, Stream, StreamGroup
from pytest_redisq.runner import Command
from tests.explore import thorough

Client = Any
pytestmark = thorough.TIME


class Look:
    """The saboteur: looks at the first message, then takes it; another worker may have come in between."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        body: bytes | None = self.client.lindex("jobs", 0)
        if body is not None:
            self.client.lpop("jobs")
        return body


class LookAsync:
    """The same saboteur, in coroutines."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def put(self, body: bytes) -> None:
        await self.client.rpush("jobs", body)

    async def get(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        body: bytes | None = await self.client.lindex("jobs", 0)
        if body is not None:
            await self.client.lpop("jobs")
        return body


async def put_async(client: Client, body: bytes) -> None:
    await client.rpush("jobs", body)


async def take_async(client: Client, timeout_seconds: float) -> bytes | None:
    popped = await client.blpop(["jobs"], timeout_seconds)
    return popped[1] if popped else None


def put(client: Client, body: bytes) -> None:
    client.rpush("jobs", body)


def take(client: Client, timeout_seconds: float) -> bytes | None:
    popped = client.blpop(["jobs"], timeout_seconds)
    return popped[1] if popped else None


def test_a_queue_that_loses_messages_is_one_line_to_find(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError, match="1 lost") as failed:
        redisq.explore(Look, contract="at-least-once", messages=2)
    assert "LINDEX jobs 0" in str(failed.value)
    assert "\n● handles a message at fault\n" in str(failed.value)
    assert isinstance(failed.value.__cause__, DeliveryError)
    with pytest.raises(DeliveryError, match="1 lost"):
        redisq.replay(queue_scenario(Look, "at-least-once", messages=2), failed.value.schedule)


def test_a_killed_worker_takes_its_job_along(url: str) -> None:
    """Only BLPOP loses: the list that keeps what is being worked on holds.

    The report points at the steps that had the message which is gone, and at no others.
    """
    failure = explore(queue_scenario(BlockingList("jobs"), "at-least-once"), url=url, faults="kill:consumer").failure
    assert failure
    assert "1 indeterminate" in str(failure.error)
    assert failure.schedule.faults == 1
    assert len(failure.execution.at_fault) == 1
    steps = failure.record()["steps"]
    pointed = [step["command"].split()[0] for step in steps if step["at_fault"]]
    assert "RPUSH" in pointed
    assert len(pointed) < len(steps)


def test_one_of_coroutines_is_no_harder_to_find(redisq: Redisq) -> None:
    """A class says itself what it is; the schedule says the same to both."""
    with pytest.raises(ScheduleError, match="1 lost") as failed:
        redisq.explore(LookAsync, contract="at-least-once", messages=2)
    assert "LINDEX jobs 0" in str(failed.value)
    made = queue_scenario(lambda client: LookAsync(client), "at-least-once", messages=2, is_async=True)
    with pytest.raises(DeliveryError, match="1 lost"):
        redisq.replay(made, failed.value.schedule)


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "tasks"])
@pytest.mark.parametrize("queue", [ReliableList("jobs"), StreamGroup("jobs", "workers")], ids=["list", "group"])
@pytest.mark.parametrize("faults", ["kill", pytest.param("lost-reply,lost-request", marks=pytest.mark.slow)])
def test_the_supplied_queues_lose_nothing(url: str, queue: Any, faults: str, is_async: bool) -> None:
    """The recovery consumer gets the message after any kill and any lost reply."""
    scenario = queue_scenario(queue, "at-least-once", messages=2, is_async=is_async)
    explore(scenario, url=url, faults=faults, schedules=thorough.schedules(40)).verify()


class Sticks(Look):
    """Waits at the wrong door, and says what it has."""

    def get(self, timeout_seconds: float) -> None:
        self.client.blpop("job", timeout_seconds)

    def pending(self) -> list[bytes]:
        return list(self.client.lrange("jobs", 0, -1))


class SticksAsync(LookAsync):
    async def get(self, timeout_seconds: float) -> None:
        await self.client.blpop("job", timeout_seconds)

    async def pending(self) -> list[bytes]:
        return list(await self.client.lrange("jobs", 0, -1))


@pytest.mark.parametrize("queue", [Sticks, SticksAsync])
def test_remaining_messages_are_listed_by_the_queue(url: str, queue: Any) -> None:
    failure = explore(queue_scenario(queue, "at-least-once", messages=2), url=url, schedules=1).failure
    assert failure
    assert "2 stuck" in str(failure.error)


def test_an_undeclared_async_queue_is_reported(url: str) -> None:
    """Else nothing would ever be done, and all be well."""
    unsaid = lambda client: LookAsync(client)  # noqa: E731
    failure = explore(queue_scenario(unsaid, "at-least-once"), url=url, schedules=1).failure
    assert failure
    assert "Pass is_async=True for it" in str(failure.error)


@pytest.mark.parametrize(
    ("queue", "contract"),
    [
        (BlockingList("jobs"), "effectively-once, fifo"),
        (Stream("jobs"), "fan-out"),
        ((put, take), "at-most-once"),
        ((put_async, take_async), "at-most-once"),
        ((put, take_async), "at-most-once"),
    ],
    ids=["blocking list", "stream", "functions", "coroutine functions", "one of each"],
)
def test_without_faults_the_right_ones_hold(url: str, queue: Any, contract: str) -> None:
    explore(queue_scenario(queue, contract, producers=2), url=url, schedules=thorough.schedules(40)).verify()


def test_a_message_left_in_the_queue_is_not_lost(url: str) -> None:
    """The only consumer is killed before its first message."""

    def scenario(world: World) -> None:
        world.producer(BlockingList("jobs"), 2)
        consumer = world.consumer(BlockingList("jobs"))
        world.verify("at-least-once")
        assert consumer.killed

    assert replay(scenario, "AABk", url=url).error is None


def test_an_invented_message_is_detected(url: str) -> None:
    def scenario(world: World) -> None:
        world.redis.rpush("jobs", "stray")
        world.producer((put, take), 1)
        world.consumer((put, take))
        world.verify("at-least-once")

    failure = explore(scenario, url=url, schedules=1).failure
    assert failure
    assert "corrupted" in str(failure.error)


@pytest.mark.parametrize(
    ("queue", "message"),
    [
        (Look(None), "cannot be explored: each actor needs the queue on a client of its own"),
        (3, "3 is no queue"),
        ((Command(["produce"]), take), "is an external command: it cannot be explored"),
    ],
)
def test_what_cannot_be_explored_is_refused(queue: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        queue_scenario(queue, "at-least-once")


class Opens(ReliableList):
    """Asks the server for something before anything is sent."""

    def bind(self, client: Client) -> Any:
        client.exists("jobs")
        return super().bind(client)


@pytest.mark.parametrize("fault", ["kill-before:producer", "lost-request:producer"])
def test_a_producer_that_dies_as_it_opens_the_queue_breaks_nothing(redisq: Redisq, fault: str) -> None:
    assert (
        redisq.explore(Opens("jobs"), contract="at-least-once", messages=1, faults=fault, schedules=40).failure is None
    )


def test_an_execution_without_messages_is_unknown(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError, match="no message was acknowledged"):
        redisq.explore(ReliableList("jobs"), contract="at-least-once", messages=0, faults="kill", schedules=1)


def test_a_queue_that_bypasses_the_proxy_is_reported(redisq: Redisq) -> None:
    """It has a client of its own, so that no schedule changes anything: that it holds would say nothing."""

    def detour(_: Client) -> Look:
        return Look(redisq.client)

    with pytest.raises(RedisqError, match=r"A producer did the enqueue .* none of its commands went through the proxy"):
        redisq.explore(detour, contract="at-least-once", schedules=1)


def test_a_contract_that_is_none_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="at-least-onc"):
        queue_scenario(Look, "at-least-onc")


class OfUrl(Look):
    """The saboteur, on a client that it makes itself."""

    def __init__(self, url: str) -> None:
        super().__init__(redis.Redis.from_url(url))

    def close(self) -> None:
        self.client.close()


def test_a_queue_of_a_url_is_explored(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError, match="1 lost"):
        redisq.explore(OfUrl, contract="at-least-once", messages=2, gets="url")
