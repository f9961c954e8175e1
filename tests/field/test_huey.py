"""huey: enqueue for later, let the scheduler move what is due; every job runs. And its worker as an actor."""

from __future__ import annotations

import datetime
import importlib
from typing import Any

import pytest
import redis

from pytest_redisq.explore import World, explore
from tests.field import jobs
from tests.field.programs import runs_a_job
from tests.field.releases import SCHEDULES, Bug, concerns, place

LOST = Bug(library="huey", broken="0.4.8", fixed="3.5.4")
#: What a release of its time may still do.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

#: When the jobs are due, and when the scheduler believes that it is later than that.
DUE = datetime.datetime(2026, 1, 1)
LATER = datetime.datetime(2026, 1, 2)
JOBS = 2


class OldRedis(redis.Redis):
    """redis-py as huey 0.4.8 knows it, before its version 3: the member comes before the score."""

    def zadd(self, name: str, member: bytes, score: float) -> Any:  # type: ignore[override]
        return super().zadd(name, {member: score})


class Old:
    """huey 0.4.8, by what it has in common with later ones."""

    def __init__(self, url: str) -> None:
        backend = importlib.import_module("huey.backends.redis_backend")
        at = place(url)
        schedule = backend.RedisSchedule("field", **at)
        schedule.conn = OldRedis(**at)
        self.queue = backend.RedisQueue("field", **at)
        self.huey = importlib.import_module("huey.api").Huey(self.queue, schedule=schedule)
        self.task = self.huey.task()(jobs.run)

    def postpone(self, number: int) -> None:
        self.huey.add_schedule(jobs.run.task_class(((number,), {}), execute_time=DUE))  # type: ignore[attr-defined]

    def pending(self) -> int:
        return len(self.queue)


class New:
    """huey as it is today."""

    def __init__(self, url: str) -> None:
        self.huey = importlib.import_module("huey").RedisHuey("field", utc=False, **place(url))
        self.task = self.huey.task()(jobs.run)

    def postpone(self, number: int) -> None:
        self.huey.add_schedule(self.task.s(number, eta=DUE))

    def pending(self) -> int:
        return int(self.huey.pending_count())


Huey = Old if LOST.installed == LOST.broken else New


def postpone(url: str) -> None:
    """Handles a job that is not due as a worker does."""
    app = Huey(url)
    for number in range(JOBS):
        app.postpone(number)


def schedule(url: str) -> None:
    """Does the work of the consumer's scheduler, which runs every second."""
    app = Huey(url)
    for task in app.huey.read_schedule(LATER):
        app.huey.enqueue(task)


def work(url: str) -> None:
    """Works as a worker does, as long as there are jobs."""
    app = Huey(url)
    while app.pending():
        app.huey.execute(app.huey.dequeue())


def recover(url: str) -> None:
    schedule(url)
    work(url)


def postpone_and_schedule(world: World) -> None:
    """Jobs are scheduled while others become due; all run, and once."""
    jobs.runs.clear()
    world.actor(postpone, gets="url")
    world.actor(schedule, gets="url")
    world.run()
    world.actor(recover, gets="url")
    world.run()
    assert sorted(jobs.runs) == list(range(JOBS))


@concerns(LOST)
def test_what_is_scheduled_while_the_schedule_is_read_runs(url: str) -> None:
    """huey 0.4.8 reads what is due with one command and removes what is due with the next."""
    failure = LOST.judge(explore(postpone_and_schedule, url=url, schedules=SCHEDULES))
    if failure:
        assert failure.schedule.faults == 0


def produce(url: str) -> None:
    app = importlib.import_module("tests.field.apps.huey_app").app_at(url)
    app.enqueue(app.run.s(1))


@pytest.mark.skipif(LOST.installed == LOST.broken, reason="its command line needs redis-py before 3")
@pytest.mark.timeout(60)
def test_the_consumer_of_the_command_line_is_an_actor(url: str) -> None:
    """Unmodified, in a process of its own."""
    runs_a_job(url, produce, "-m", "huey.bin.huey_consumer", "tests.field.apps.huey_app.app", "--no-periodic")
