"""direct_connections.py: an actor's connection past the schedule is refused in one sentence, with its line."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from pytest_redisq.errors import RedisqError
from pytest_redisq.explore import World, explore


def scenario_of(actor: Callable[..., Any], *args: Any) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        world.actor(actor, *args)
        world.run()

    return scenario


def take(client: redis.Redis, url: str) -> object:
    client.get("first")
    with redis.Redis.from_url(url) as other:
        return other.lpop("jobs")


def take_and_swallow(client: redis.Redis, url: str) -> None:
    with contextlib.suppress(Exception):
        take(client, url)


async def take_async(client: redis.asyncio.Redis, url: str) -> object:
    await client.get("first")
    async with redis.asyncio.Redis.from_url(url) as other:
        return await other.lpop("jobs")


@pytest.mark.parametrize("actor", [take, take_and_swallow, take_async])
def test_a_client_past_the_schedule_is_refused(url: str, actor: Callable[..., Any]) -> None:
    with pytest.raises(RedisqError) as refused:
        explore(scenario_of(actor, url), url=url)
    first = str(refused.value).splitlines()[0]
    assert first.startswith("An actor connects straight to the server, past the schedule: test_direct_connections.py:")
    assert first.endswith('lpop("jobs")')
    assert "connect" not in vars(socket.socket)


def test_the_worlds_own_client_and_other_servers_are_not_refused(url: str) -> None:
    """`world.redis` is known to be past the schedule; a connection to something else does not concern it."""

    def scenario(world: World) -> None:
        def look(client: redis.Redis) -> object:
            with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
                client.get("first")
            with world.redis.pipeline() as pipe:
                pipe.get("first")
                return pipe.execute()

        actor = world.actor(look)
        world.run()
        assert actor.result == [None]

    explore(scenario, url=url, schedules=3).verify()
