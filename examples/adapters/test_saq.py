"""saq under the conformance kit: its own queue, on the kit's own client."""

from __future__ import annotations

import base64

from redis.asyncio import Redis
from saq import Job, Status
from saq.queue.redis import RedisQueue

from pytest_redisq import conformance


class Taken:
    """A job in a worker's hands. saq's jobs are JSON, so the body travels as text."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.id: str = job.key
        self.body = base64.b64decode((job.kwargs or {})["body"])


class SAQ:
    """One worker's end of a saq queue."""

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


# What a killed worker had taken is swept up by another one a minute later at the earliest.
TestSAQ = conformance(SAQ, contract="at-most-once, fifo", workers=("asyncio",), faults=())
