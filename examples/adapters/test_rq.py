"""RQ under the conformance kit: jobs are enqueued and taken as its worker does it, each on the kit's own client."""

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
    """A job in a worker's hands."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.id: str = job.id
        self.body: bytes = job.args[0]


class RQ:
    """One worker's end of an RQ queue."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.queue = rq.Queue("jobs", connection=client)
        self.intermediate = IntermediateQueue(self.queue.key, client)

    def put(self, body: bytes) -> str:
        return str(self.queue.enqueue("examples.work", body).id)

    def get(self, timeout_seconds: float) -> Taken | None:
        deadline = time.monotonic() + timeout_seconds
        while True:  # RQ waits by whole seconds, or not at all
            found = rq.Queue.dequeue_any([self.queue], timeout=None, connection=self.client)
            if found is not None:
                return Taken(found[0])
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.01)

    def ack(self, taken: Taken) -> None:
        """What the worker does when a job has been done: it is nowhere any more. May be done again."""
        self.intermediate.remove(taken.id)
        with contextlib.suppress(InvalidJobOperation):  # it is gone already: this ack's first try had lost its reply
            taken.job.delete()

    def remaining(self) -> list[bytes]:
        return [job.args[0] for job in self.queue.get_jobs()]

    def pending(self) -> list[bytes]:
        jobs: list[Any] = Job.fetch_many(self.intermediate.get_job_ids(), connection=self.client)
        return [job.args[0] for job in jobs if job is not None]


# "at-least-once" would be more than RQ promises by itself: what a killed worker had taken is found by the maintenance
# of another after a minute, and then it is among the failed jobs, until somebody has it run again.
TestRQ = conformance(RQ, contract="at-most-once, fifo", workers=("thread",))
