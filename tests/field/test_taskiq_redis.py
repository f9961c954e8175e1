"""taskiq-redis: its worker as an actor."""

from __future__ import annotations

import pytest
import redis
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

from pytest_redisq.explore import World, replay
from tests.field.programs import DONE, wait

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def broker_at(url: str) -> ListQueueBroker:
    """A broker that has the one task."""
    broker = ListQueueBroker(url)

    async def run(number: int) -> None:
        async with redis.asyncio.Redis.from_url(url) as client:
            await client.rpush(DONE, number)

    broker.register_task(run, task_name="run")
    return broker


async def produce(url: str) -> None:
    broker = broker_at(url)
    await broker.startup()
    task = broker.find_task("run")
    assert task
    await task.kiq(1)
    await broker.shutdown()


async def work(url: str) -> None:
    await run_receiver_task(broker_at(url), run_startup=True)


def test_its_worker_is_an_actor(url: str) -> None:
    """Unmodified, in an event loop."""

    def scenario(world: World) -> None:
        world.actor(work, gets="url", background=True)
        world.actor(produce, gets="url")
        waiting = world.actor(wait)
        world.run()
        assert waiting.result == 1

    error = replay(scenario, "", url=url).error
    assert error is None, error
