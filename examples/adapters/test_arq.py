"""arq under the conformance kit: its own worker. The job passes its body on and waits until it is acknowledged."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from arq import ArqRedis
from arq.worker import Worker, func
from redis.asyncio import Redis

from pytest_redisq import conformance

#: Seconds between two polls of the queue.
POLL_SECONDS = 0.01


class Taken:
    """A job that has started, and ends when it is acknowledged."""

    def __init__(self, job_id: str, body: bytes) -> None:
        self.id, self.body = job_id, body
        self.done = asyncio.Event()


class Arq:
    """An arq queue for one worker."""

    def __init__(self, client: Redis) -> None:
        self.pool = ArqRedis(client.connection_pool)
        self.begun: asyncio.Queue[Taken] = asyncio.Queue()
        self.worker: Any = Worker(
            [func(self._work, name="work")],
            redis_pool=self.pool,
            max_jobs=1_000,
            handle_signals=False,
            keep_result=0,
        )

    async def put(self, body: bytes) -> str:
        job = await self.pool.enqueue_job("work", body)
        assert job is not None
        return job.job_id

    async def get(self, timeout_seconds: float) -> Taken | None:
        """Do the work of arq's main loop until the timeout: look for jobs that are due, and start one."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            running = self.worker.job_counter
            self.worker.max_jobs = running + 1
            await self.worker._poll_iteration()
            if self.worker.job_counter > running:
                return await self.begun.get()
            if time.monotonic() >= deadline:
                return None
            await asyncio.sleep(POLL_SECONDS)

    async def ack(self, taken: Taken) -> None:
        taken.done.set()
        await asyncio.wait([self.worker.tasks[taken.id]])

    async def close(self) -> None:
        for task in self.worker.tasks.values():
            task.cancel()
        await asyncio.gather(*self.worker.tasks.values(), return_exceptions=True)

    async def _work(self, context: dict[str, Any], body: bytes) -> None:
        taken = Taken(context["job_id"], body)
        self.begun.put_nowait(taken)
        await taken.done.wait()


# arq starts the job of a killed worker again, ten seconds after the job's longest time. This test does not wait for
# that.
TestArq = conformance(Arq, contract="at-most-once", workers=("asyncio",), faults=())
