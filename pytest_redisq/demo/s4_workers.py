"""S4: a queue of BLPOP workers. A job leaves the server when it is delivered: if the worker dies, the job is lost."""

from __future__ import annotations

import time
from dataclasses import replace
from threading import Thread

from pytest_redisq.check import Contract, Verdict
from pytest_redisq.demo.story import Attempt, Stage, Story, Version, explored
from pytest_redisq.errors import RedisqError
from pytest_redisq.explore import World
from pytest_redisq.faults import Fault
from pytest_redisq.queues import BlockingList, BoundQueue, ReliableList, Stopped

CONTRACT = Contract.parse("at-least-once")
#: The fewest that show the bug.
JOBS = 2
WORKERS = 2

#: Workers that are stopped while they wait for a job, and how many seconds that may take.
IDLE_WORKERS = 20
STOP_SECONDS = 5.0


def broken(stage: Stage) -> Attempt:
    """RPUSH and BLPOP; a worker is killed, at any moment."""
    return _work(stage, BlockingList(stage.key("jobs")))


def fixed(stage: Stage) -> Attempt:
    """BLMOVE to a processing list, acknowledgement, recovery; and idle workers stop at once, by CLIENT UNBLOCK."""
    attempt = _work(stage, ReliableList(stage.key("jobs")))
    return replace(attempt, evidence=(*attempt.evidence, _stop_idle_workers(stage)))


def _work(stage: Stage, queue: BlockingList | ReliableList) -> Attempt:
    def scenario(world: World) -> Verdict:
        world.producer(queue, JOBS)
        for _ in range(WORKERS):
            world.consumer(queue, name="worker")
        return world.verify(CONTRACT)

    said = f"{JOBS} jobs for {WORKERS} workers; a worker may be killed at any moment"
    return explored(stage, scenario, CONTRACT, said, faults=Fault("kill", target="worker"))


def _stop_idle_workers(stage: Stage) -> str:
    """Stop workers that wait without a time limit. Returns a line with the time it took."""
    ends = [BlockingList(stage.key("idle")).bind(stage.client) for _ in range(IDLE_WORKERS)]
    threads = [Thread(target=_wait_for_a_job, args=(end,), daemon=True) for end in ends]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    for end in ends:
        end.stop()
    for thread in threads:
        thread.join(STOP_SECONDS)
    took = time.perf_counter() - began
    if any(thread.is_alive() for thread in threads):
        raise RedisqError(f"workers in BLPOP did not stop within {STOP_SECONDS:g} s")
    for end in ends:
        end.close()
    return f"{IDLE_WORKERS} workers that wait in BLPOP without a time limit: all stopped in {took * 1000:.0f} ms"


def _wait_for_a_job(end: BoundQueue) -> None:
    try:
        end.get()
    except Stopped:
        return


STORY = Story(
    id="S4",
    title="A job queue of BLPOP workers",
    broken=Version(title="RPUSH and BLPOP, and a worker dies before its job is done", play=broken),
    fixed=Version(title="ReliableList: BLMOVE, acknowledgement, recovery of a dead worker's jobs", play=fixed),
)
