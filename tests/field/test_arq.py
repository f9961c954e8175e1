"""arq: its worker as an actor."""

from __future__ import annotations

import pytest
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from pytest_redisq.explore import World, replay
from tests.field import jobs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def run(_context: object, number: int) -> None:
    jobs.run(number)


async def produce(url: str) -> None:
    pool = await create_pool(RedisSettings.from_dsn(url))
    await pool.enqueue_job("run", 1)
    await pool.aclose()


async def work(url: str) -> None:
    worker = Worker(
        functions=[func(run, name="run")],
        redis_settings=RedisSettings.from_dsn(url),
        burst=True,
        handle_signals=False,
    )
    await worker.main()
    await worker.close()


def test_its_worker_is_an_actor(url: str) -> None:
    """Unmodified, in an event loop."""

    def scenario(world: World) -> None:
        jobs.runs.clear()
        world.actor(produce, gets="url")
        world.run()
        world.actor(work, gets="url")
        world.run()
        assert jobs.runs == [1]

    error = replay(scenario, "", url=url).error
    assert error is None, error
