"""Waits that end on the client's side: the server serves a command whose client has gone, or notices it first."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pytest_redisq.explore import World, explore, replay
from pytest_redisq.explore.exploration import Failure
from pytest_redisq.resp import encode_command
from tests.explore import thorough

Client = Any
pytestmark = thorough.TIME


async def gives_up(client: Client) -> bytes | None:
    """Ends the wait on the client's side, and so loses what is pushed before the server notices."""
    try:
        return (await asyncio.wait_for(client.blpop("jobs"), 1))[1]
    except TimeoutError:
        return None


async def lets_the_server_give_up(client: Client) -> bytes | None:
    """The server ends the wait, so that it knows whether the element was taken."""
    found = await client.blpop("jobs", timeout=1)
    return found[1] if found else None


async def moves(client: Client) -> bytes | None:
    """Ends the wait on the client's side, but what it takes stays in another list."""
    try:
        return await asyncio.wait_for(client.blmove("jobs", "taken", 0), 1)
    except TimeoutError:
        return None


def push_late(client: Client) -> None:
    time.sleep(1)
    client.rpush("jobs", "job")


def one_job(take: Callable[[Client], Awaitable[bytes | None]]) -> Callable[[World], None]:
    """A scenario: the wait ends just when a job comes. It must be received, or be in a list."""

    def scenario(world: World) -> None:
        taker = world.actor(take)
        world.actor(push_late)
        world.run()
        assert taker.result == b"job" or world.redis.llen("jobs") + world.redis.llen("taken") == 1

    return scenario


def test_an_element_is_lost_to_a_client_that_gave_up(url: str) -> None:
    """Two schedules: the server serves the command, or notices that its client has gone.

    From Python 3.12 `wait_for` also loses an element that comes just when the time is up: that is found first.
    """
    assert explore(one_job(gives_up), url=url, schedules=30).failure
    failure = Failure.of(replay(one_job(gives_up), "AA0tBtB", url=url), gives_up)
    assert failure.error
    assert "BLPOP jobs 0 → [jobs job] (client gone)" in failure.explain()
    assert replay(one_job(gives_up), "AA0tBtAnB", url=url).error is None


@pytest.mark.parametrize("take", [lets_the_server_give_up, moves])
def test_no_element_is_lost_if_the_server_ends_the_wait_or_a_list_keeps_it(
    url: str, take: Callable[[Client], Awaitable[bytes | None]]
) -> None:
    assert explore(one_job(take), url=url, exhaustive=True).verify().complete


def test_a_command_takes_effect_although_its_client_has_gone(url: str) -> None:
    """It was sent; the server executes it, and its reply goes nowhere. Nothing that is left over delays the end."""

    async def impatient(client: Client) -> None:
        push = asyncio.create_task(client.rpush("jobs", "job"))
        await asyncio.sleep(0.1)
        push.cancel()

    def scenario(world: World) -> None:
        world.actor(impatient)
        world.run()
        assert world.redis.llen("jobs") == 1
        world.actor(gives_up)
        world.run()
        assert world.redis.client_list(_type="normal")

    execution = replay(scenario, "A0tA", url=url)
    assert execution.error is None
    assert "(client gone)" in execution.table()


class GivesUp:
    """A queue whose consumer ends its waits itself."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def put(self, body: bytes) -> None:
        await self.client.rpush("jobs", body)

    async def get(self, timeout_seconds: float) -> bytes | None:
        try:
            found = await asyncio.wait_for(self.client.blpop("jobs"), timeout_seconds)
        except TimeoutError:
            return None
        return bytes(found[1])


class LetsTheServerGiveUp(GivesUp):
    """The correct twin."""

    async def get(self, timeout_seconds: float) -> bytes | None:
        found = await self.client.blpop("jobs", timeout=timeout_seconds)
        return bytes(found[1]) if found else None


def test_a_queue_whose_consumers_give_up_loses_messages(url: str) -> None:
    """Found without any fault, where messages come as a wait ends."""

    def scenario_of(queue: Any) -> Callable[[World], None]:
        def scenario(world: World) -> None:
            world.producer(queue, 2, after_seconds=1)
            world.consumer(queue)
            world.verify("at-least-once")

        return scenario

    failure = explore(scenario_of(GivesUp), url=url, schedules=50).failure
    assert failure
    assert "1 lost" in str(failure.error)
    explore(scenario_of(LetsTheServerGiveUp), url=url, schedules=50).verify()


# -- waits on sockets --------------------------------------------------------------------------------------------------


def impatient_client(url: str) -> Client:
    return redis.Redis.from_url(url, socket_timeout=1, retry=Retry(NoBackoff(), 0))


def blocks_for_long(client: Client) -> bytes | None:
    """The client's `socket_timeout` ends the wait, not the server."""
    try:
        return bytes(client.blpop("jobs", timeout=30)[1])
    except redis.TimeoutError:
        return None


def blocks_shortly(client: Client) -> bytes | None:
    """The correct twin: asks the server to end the wait first, and looks again."""
    for _ in range(3):
        if found := client.blpop("jobs", timeout=0.5):
            return bytes(found[1])
    return None


def test_an_element_is_lost_to_a_client_with_a_shorter_socket_timeout(url: str) -> None:
    failure = explore(one_job(blocks_for_long), url=url, client=impatient_client, schedules=30).failure
    assert failure
    assert "BLPOP jobs 30 → [jobs job] (client gone)" in failure.explain()
    again = replay(one_job(blocks_for_long), failure.schedule, url=url, client=impatient_client)
    assert isinstance(again.error, AssertionError)
    held = explore(one_job(blocks_shortly), url=url, client=impatient_client, exhaustive=True)
    assert held.verify().complete


def test_waits_on_sockets_take_the_time_of_the_schedule(url: str) -> None:
    """A subscriber that waits for a message, and a thread that selects and polls: none is a deadlock, or takes long."""
    began = time.monotonic()

    def listens(client: Client) -> list[Any]:
        with client.pubsub() as sub:
            sub.subscribe("news")
            start = time.monotonic()
            sub.get_message(timeout=1)  # the subscription's own
            said = [sub.get_message(timeout=600) for _ in range(2)]
            return [each and each["data"] for each in said] + [time.monotonic() - start]

    def selects(url: str) -> list[float]:
        host, port = url.removeprefix("redis://").split(":")
        with socket.create_connection((host, int(port)), 300) as connection:
            start = time.monotonic()
            assert select.select([connection], [], [], 100) == ([], [], [])
            times = [time.monotonic() - start]
            poller = select.poll()
            poller.register(connection, select.POLLIN)
            assert poller.poll(200_000) == []
            times.append(time.monotonic() - start)
            connection.send(encode_command(["PUBLISH", "news", "a"]))
            assert select.select([connection.fileno()], [], [], 5) == ([connection.fileno()], [], [])
            assert poller.poll() == [(connection.fileno(), select.POLLIN)]
            assert connection.recv(10) == b":1\r\n"
            with pytest.raises(TimeoutError):
                connection.recv(1)
            return [*times, time.monotonic() - start]

    def scenario(world: World) -> None:
        listener = world.actor(listens)
        selecting = world.actor(selects, gets="url")
        world.run()
        assert listener.result[:2] == [b"a", None]
        assert listener.result[2] == pytest.approx(900, abs=0.1)
        assert selecting.result == [pytest.approx(100), pytest.approx(300), pytest.approx(600)]

    assert replay(scenario, "", url=url).error is None
    assert time.monotonic() - began < 60
    assert select.poll().poll(0) == []
