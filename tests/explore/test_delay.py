"""The fault `delay`: a command that reaches the server late, while its client goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pytest_redisq.explore import World, explore, queue_scenario
from tests.explore import thorough

Client = Any
pytestmark = thorough.TIME

TAKE = """
local body = redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[1], 'LIMIT', 0, 1)[1]
if body then redis.call('ZADD', KEYS[1], ARGV[1] + 30, body) end
return body
"""


class Leases:
    """A message is leased for 30 seconds, and handed out again if it is not acknowledged by then."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.zadd("jobs", {body: 0})

    def get(self, timeout_seconds: float) -> bytes | None:
        body: bytes | None = self.client.eval(TAKE, 1, "jobs", time.time())
        if body is None:
            time.sleep(timeout_seconds)
        return body

    def ack(self, body: bytes) -> None:
        self.client.zrem("jobs", body)


def test_a_message_is_done_twice_if_its_acknowledgement_comes_after_the_lease(url: str) -> None:
    """Nothing in the scenario is slow. For a queue that may deliver twice, that is right."""
    once = queue_scenario(Leases, "at-most-once", messages=1)
    failure = explore(once, url=url, schedules=200, faults="delay").failure
    assert failure
    assert "1 duplicated" in str(failure.error)
    assert "delayed" in failure.explain()
    assert explore(once, url=url, schedules=100).failure is None
    explore(queue_scenario(Leases, "at-least-once", messages=1), url=url, schedules=100, faults="delay").verify()


def test_a_heartbeat_goes_on_while_a_command_is_delayed(url: str) -> None:
    """What `pause` stops too: so a lock that is renewed holds under a delay, and not under a pause."""

    async def work(client: Client, at_work: list[int]) -> None:
        if not await client.set("lock", "mine", nx=True, ex=30):
            return
        at_work.append(1)
        beat = asyncio.create_task(renew(client))
        await client.rpush("log", "work")
        at_work.remove(1)
        beat.cancel()

    async def renew(client: Client) -> None:
        while True:
            await asyncio.sleep(10)
            await client.expire("lock", 30)

    async def work_later(client: Client, at_work: list[int]) -> None:
        await asyncio.sleep(60)
        if await client.set("lock", "mine", nx=True, ex=30):
            assert not at_work, "two work at once"

    def scenario(world: World) -> None:
        at_work: list[int] = []
        world.actor(work, at_work, name="first")
        world.actor(work_later, at_work)
        world.run()

    explore(scenario, url=url, schedules=150, faults="delay:first").verify()
    assert explore(scenario, url=url, schedules=150, faults="pause:first").failure


def impatient_client(url: str) -> Client:
    return redis.Redis.from_url(url, socket_timeout=5, retry=Retry(NoBackoff(), 1))


def sets(client: Client) -> None:
    """A write that is sent again may take effect late, after the next one."""
    client.set("state", "begun")
    client.set("state", "done")


def sets_forward(client: Client) -> None:
    """The correct twin: a write never goes back."""
    script = "if redis.call('GET', KEYS[1]) ~= 'done' then redis.call('SET', KEYS[1], ARGV[1]) end"
    for state in ("begun", "done"):
        client.eval(script, 1, "state", state)


def test_a_write_that_its_client_has_given_up_takes_effect_late(url: str) -> None:
    def scenario_of(write: Callable[[Client], None]) -> Callable[[World], None]:
        def scenario(world: World) -> None:
            world.actor(write)
            world.run()
            assert world.redis.get("state") == b"done"

        return scenario

    failure = explore(scenario_of(sets), url=url, client=impatient_client, schedules=50, faults="delay").failure
    assert failure
    assert "SET state begun → OK (client gone)" in failure.explain()
    explore(scenario_of(sets_forward), url=url, client=impatient_client, schedules=50, faults="delay").verify()
