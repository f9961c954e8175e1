"""Waits that end on the client's side: the server serves a command whose client has gone, or notices it first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pytest_redisq.explore import World, explore, replay
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
    """Two schedules: the server serves the command, or notices that its client has gone."""
    failure = explore(one_job(gives_up), url=url, schedules=30).failure
    assert failure
    assert str(failure.schedule) == "AA0tBtB"
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
