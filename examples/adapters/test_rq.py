"""RQ under the conformance kit: jobs are enqueued and dequeued as by RQ's worker, on the kit's clients."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import rq
from redis import Redis
from rq.exceptions import InvalidJobOperation
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job

from pytest_redisq import conformance


class Taken:
    """A job that a worker has received."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.id: str = job.id
        self.body: bytes = job.args[0]


class RQ:
    """An RQ queue for one worker."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.queue = rq.Queue("jobs", connection=client)
        self.intermediate = IntermediateQueue(self.queue.key, client)

    def put(self, body: bytes) -> str:
        return str(self.queue.enqueue("examples.work", body).id)

    def get(self, timeout_seconds: float) -> Taken | None:
        deadline = time.monotonic() + timeout_seconds
        while True:  # RQ waits whole seconds, or not at all
            found = rq.Queue.dequeue_any([self.queue], timeout=None, connection=self.client)
            if found is not None:
                return Taken(found[0])
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.01)

    def ack(self, taken: Taken) -> None:
        """Remove a finished job, as RQ's worker does. This may be repeated."""
        self.intermediate.remove(taken.id)
        with contextlib.suppress(InvalidJobOperation):  # it is gone already: the reply to an earlier ack was lost
            taken.job.delete()

    def remaining(self) -> list[bytes]:
        return [job.args[0] for job in self.queue.get_jobs()]

    def pending(self) -> list[bytes]:
        jobs: list[Any] = Job.fetch_many(self.intermediate.get_job_ids(), connection=self.client)
        return [job.args[0] for job in jobs if job is not None]


# RQ does not guarantee "at-least-once" by itself. After a minute, the maintenance of another worker moves the job of a
# killed worker to the failed jobs. It stays there until a person requeues it.
TestRQ = conformance(RQ, contract="at-most-once, fifo", workers=("thread",))
