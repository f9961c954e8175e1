"""saq: enqueue, work, kill the worker, sweep; every job runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from saq import Queue, Worker

from pytest_redisq.explore import World, explore, replay
from tests.field import jobs
from tests.field.releases import SCHEDULES, Bug, concerns

ABORTED = Bug(library="saq", broken="0.12.7", fixed="0.26.4")
#: What a release of its time may still do, and what a killed worker leaves open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: When a job is stuck for sure, and saq's lock on sweeping is gone, in seconds.
RECOVERY_SECONDS = 1_000
#: How often saq may try a job.
TRIES = 3


async def run(_context: object, *, number: int) -> None:
    jobs.run(number)


async def hang_up(queue: Queue) -> None:
    """Without PUNSUBSCRIBE, whose reply `queue.disconnect` does not wait for: whether it arrives is left to chance."""
    await queue.redis.aclose()
    await queue.redis.connection_pool.disconnect()


async def produce(url: str) -> None:
    queue = Queue.from_url(url)
    await queue.enqueue("run", number=1, retries=TRIES)
    await hang_up(queue)


async def work(url: str) -> None:
    queue = Queue.from_url(url)
    await one_job(queue)
    await hang_up(queue)


async def one_job(queue: Queue) -> None:
    worker: Any = Worker(queue, functions=[("run", run)], dequeue_timeout=1)
    await worker.process()


async def recover(url: str) -> None:
    """Another worker, later."""
    await asyncio.sleep(RECOVERY_SECONDS)
    queue = Queue.from_url(url)
    await queue.sweep()
    for _ in range(TRIES):
        await one_job(queue)
    await hang_up(queue)


def a_worker_dies(world: World) -> None:
    """One job, one worker, which may die, and another one later."""
    jobs.runs.clear()
    world.actor(produce, gets="url")
    world.run()
    world.actor(work, gets="url", name="worker")
    world.run()
    world.actor(recover, gets="url")
    world.run()
    assert 1 in jobs.runs, "the job has not run"


@concerns(ABORTED)
@pytest.mark.timeout(600)
def test_a_killed_worker_loses_no_job(url: str) -> None:
    """saq 0.12.7 aborts a job that was dequeued and not begun, though it has tries left; later it is tried again."""
    failure = ABORTED.judge(explore(a_worker_dies, url=url, faults="kill:worker", schedules=SCHEDULES))
    if failure:
        assert failure.schedule.faults == 1


def test_its_worker_is_an_actor(url: str) -> None:
    """Unmodified, in an event loop."""

    def scenario(world: World) -> None:
        jobs.runs.clear()
        world.actor(produce, gets="url")
        world.actor(work, gets="url")
        world.run()
        assert jobs.runs == [1]

    assert replay(scenario, "", url=url).error is None
