"""saq under the conformance kit: its own queue, on the kit's own client."""

from __future__ import annotations

import base64

from redis.asyncio import Redis
from saq import Job, Status
from saq.queue.redis import RedisQueue

from pytest_redisq import conformance


class Taken:
    """A job that a worker has received. saq's jobs are JSON, so the body is text."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.id: str = job.key
        self.body = base64.b64decode((job.kwargs or {})["body"])


class SAQ:
    """A saq queue for one worker."""

    def __init__(self, client: Redis) -> None:
        self.queue = RedisQueue(client, name="jobs")

    async def put(self, body: bytes) -> str:
        job = await self.queue.enqueue("work", body=base64.b64encode(body).decode(), ttl=-1)
        assert job is not None
        return job.key

    async def get(self, timeout_seconds: float) -> Taken | None:
        job = await self.queue.dequeue(timeout=timeout_seconds)
        return None if job is None else Taken(job)

    async def ack(self, taken: Taken) -> None:
        await self.queue.finish(taken.job, Status.COMPLETE)


# Another worker takes over the job of a killed worker, a minute later at the earliest.
TestSAQ = conformance(SAQ, contract="at-most-once, fifo", workers=("asyncio",), faults=())
