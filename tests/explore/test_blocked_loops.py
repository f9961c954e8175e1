"""blocked_loops.py: a coroutine that blocks its event loop is refused in one sentence, with the line that waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import redis
import redis.asyncio

from pytest_redisq.explore import StuckError, World, explore, replay


def take(client: redis.Redis) -> object:
    return client.lpop("jobs")


async def take_in_the_loop(url: str) -> object:
    with redis.Redis.from_url(url) as client:
        return take(client)


async def wait_in_the_loop(url: str) -> object:
    with redis.Redis.from_url(url) as client:
        return client.blpop("nothing", 0)


async def sleep_in_the_loop(_: str) -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("coroutine", "line"),
    [
        (take_in_the_loop, 'in take: return client.lpop("jobs")'),
        (wait_in_the_loop, 'in wait_in_the_loop: return client.blpop("nothing", 0)'),
        (sleep_in_the_loop, "in sleep_in_the_loop: time.sleep(60)"),
    ],
)
def test_a_coroutine_that_blocks_its_loop_is_refused(
    url: str, coroutine: Callable[[str], Coroutine[Any, Any, object]], line: str
) -> None:
    """Long before the client gives up: its error would be the scenario's failure."""

    def scenario(world: World) -> None:
        world.actor(coroutine, gets="url", name="worker")
        world.run()

    with pytest.raises(StuckError) as refused:
        explore(scenario, url=url, patience_seconds=600)
    first = str(refused.value).splitlines()[0]
    assert first.startswith("A coroutine blocks its event loop: A (worker) waits at test_blocked_loops.py:")
    assert first.endswith(line)


async def compute_meanwhile(url: str) -> object:
    """It uses the CPU for longer than a loop may wait, while the schedule holds its command."""
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.ping()
        taking = asyncio.ensure_future(client.lpop("jobs"))
        for _ in range(10):
            await asyncio.sleep(0)
        used = time.thread_time() + 1.0
        while time.thread_time() < used:
            pass
        return await taking


async def wait_in_turn(url: str) -> object:
    """The loop waits, for commands and for its timers, for as long as it likes."""
    async with redis.asyncio.Redis.from_url(url, socket_timeout=None) as client:
        await asyncio.gather(client.blpop("nothing", 60), asyncio.sleep(3600))
        return await client.lpop("jobs")


@pytest.mark.parametrize("coroutine", [compute_meanwhile, wait_in_turn])
def test_a_coroutine_that_does_not_block_its_loop_is_accepted(
    url: str, coroutine: Callable[[str], Coroutine[Any, Any, object]]
) -> None:
    def scenario(world: World) -> None:
        world.redis.rpush("jobs", "a")
        actor = world.actor(coroutine, gets="url")
        world.run()
        assert actor.result == b"a"

    assert replay(scenario, "", url=url).error is None
