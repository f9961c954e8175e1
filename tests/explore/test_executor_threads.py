"""A coroutine may give work to threads (`asyncio.to_thread`): their commands are scheduled, and they are waited for."""

from __future__ import annotations

import asyncio
import queue
import time
from typing import Any

import pytest
import redis

from pytest_redisq.explore import World, explore
from tests.explore import thorough

pytestmark = thorough.TIME


def test_a_coroutine_waits_for_a_thread_that_needs_no_command(url: str) -> None:
    async def works(_client: Any) -> int:
        await asyncio.to_thread(time.sleep, 0.02)
        return await asyncio.to_thread(lambda: 7)

    def scenario(world: World) -> None:
        actor = world.actor(works)
        world.actor(lambda client: client.llen("jobs"))
        world.run()
        assert actor.result == 7

    explore(scenario, url=url, schedules=3).verify()


def test_commands_that_threads_of_a_coroutine_send_are_scheduled(url: str) -> None:
    async def takes(url: str) -> list[Any]:
        client = redis.Redis.from_url(url, socket_timeout=None)

        async def take(seconds: int) -> Any:
            return await asyncio.to_thread(client.blpop, ["jobs"], seconds)

        taken = await asyncio.gather(take(5), take(7))
        await asyncio.sleep(3)
        taken.append(await take(1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(take(3), 1)
        return taken

    def scenario(world: World) -> None:
        actor = world.actor(takes, gets="url")
        world.actor(lambda client: [client.rpush("jobs", body) for body in "ab"])
        world.run()
        assert sorted(body for _, body in actor.result[:2]) == [b"a", b"b"]
        assert actor.result[2] is None

    exploration = explore(scenario, url=url, schedules=20)
    exploration.verify()
    assert len(exploration.orders) > 1


def test_a_race_of_threads_of_two_coroutines_is_found(url: str) -> None:
    async def counts(url: str) -> None:
        client = redis.Redis.from_url(url, socket_timeout=None)
        before = int(await asyncio.to_thread(client.get, "count") or 0)
        await asyncio.to_thread(client.set, "count", before + 1)

    def scenario(world: World) -> None:
        world.actor(counts, gets="url")
        world.actor(counts, gets="url")
        world.run()
        assert world.redis.get("count") == b"2"

    failure = explore(scenario, url=url, schedules=20).failure
    assert failure
    assert [event.args[0] for event in failure.execution.events] == [b"GET", b"GET", b"SET", b"SET"]


def test_a_thread_that_waits_for_its_own_coroutine_stops_no_clock(url: str) -> None:
    async def hands_over(client: Any) -> int:
        handed: queue.Queue[int] = queue.Queue()

        async def hand() -> None:
            await asyncio.sleep(60)
            handed.put(await client.llen("jobs"))

        task = asyncio.create_task(hand())
        got = await asyncio.to_thread(handed.get)
        await task
        return got

    def scenario(world: World) -> None:
        actor = world.actor(hands_over)
        world.run()
        assert actor.result == 0

    explore(scenario, url=url, schedules=1).verify()
