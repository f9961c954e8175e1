"""RQ: enqueue, work, kill a worker or lose a reply, recover; every job runs, and where nothing was lost, once."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import rq
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.timeouts import TimerDeathPenalty

from pytest_redisq.explore import World, explore, replay
from pytest_redisq.facade import Redisq
from pytest_redisq.runner import Command
from tests.field import jobs
from tests.field.releases import SCHEDULES, Bug, concerns, connect

ROOT = Path(__file__).parents[2]
#: What a release of its time may still do.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

#: When what a dead worker held is looked for at the latest, in seconds: RQ's maintenance has a lock of 15 minutes.
RECOVERY_SECONDS = 1_000

TWICE = Bug(library="rq", broken="3.0.0", fixed=None)
LOST = Bug(library="rq", broken="1.14.1", fixed="1.15.0")
FAILED = Bug(library="rq", broken="1.16.1", fixed="1.16.2")


class ThreadWorker(rq.SimpleWorker):  # type: ignore[misc]
    """RQ's worker as far as it can run in a thread: only the main one may handle signals."""

    death_penalty_class = TimerDeathPenalty

    def _install_signal_handlers(self) -> None:
        """No signals."""

    def subscribe(self) -> None:
        """No commands by PUBSUB either: they would be listened to by yet another thread, by the real clock."""

    def unsubscribe(self) -> None:
        """Nothing to end."""


def produce(url: str) -> None:
    rq.Queue("jobs", connection=connect(url)).enqueue(jobs.run, 1)


def work(url: str) -> None:
    ThreadWorker(["jobs"], connection=connect(url)).work(burst=True, logging_level="CRITICAL")


def recover(url: str) -> None:
    """Acts as an operator: waits, lets a worker do its maintenance, and requeues failed jobs."""
    time.sleep(RECOVERY_SECONDS)
    queue = rq.Queue("jobs", connection=connect(url))
    # RQ reads the date, which is not the schedule's.
    StartedJobRegistry(queue=queue).cleanup(timestamp=int(time.time()) + RECOVERY_SECONDS)
    work(url)
    failed = FailedJobRegistry(queue=queue)
    for identity in failed.get_job_ids():
        failed.requeue(identity)
    work(url)


def enqueue(world: World) -> None:
    """After any network fault, a job that is enqueued once is in the queue once."""
    world.actor(produce, gets="url")
    world.run()
    assert world.redis.llen("rq:queue:jobs") <= 1


def one_worker(world: World) -> None:
    """A worker may die: the job runs nevertheless."""
    work_and_recover(world, workers=1)


def two_workers(world: World) -> None:
    """Two workers and one job, which runs once."""
    work_and_recover(world, workers=2)


def work_and_recover(world: World, *, workers: int) -> None:
    jobs.runs.clear()
    world.actor(produce, gets="url")
    world.run()
    for _ in range(workers):
        world.actor(work, gets="url", name="worker")
    world.run()
    world.actor(recover, gets="url")
    world.run()
    if any(actor.killed for actor in world.actors):
        assert 1 in jobs.runs, "the job has not run"
    else:
        assert jobs.runs == [1], f"the job has run {len(jobs.runs)} times"


@concerns(TWICE)
def test_one_lost_reply_enqueues_once(url: str) -> None:
    """RQ 3.0.0 under redis-py 8.1: EXEC is sent again, and the job is in the queue twice."""
    failure = TWICE.judge(explore(enqueue, url=url, faults="lost-reply", schedules=SCHEDULES))
    assert failure
    assert failure.schedule.faults == 1


@concerns(LOST)
@pytest.mark.timeout(600)
def test_a_killed_worker_loses_no_job(url: str) -> None:
    """RQ 1.14.1 holds a popped job only in the worker; 1.15 moves it to an intermediate queue, which it looks after."""
    failure = LOST.judge(explore(one_worker, url=url, faults="kill:worker", schedules=SCHEDULES))
    if failure:
        last = next(event for event in failure.ran.events if event.step.mark)
        assert str(last.step).endswith("x")
        assert last.args[0] == b"LPOP"


@concerns(FAILED)
@pytest.mark.timeout(600)
def test_a_job_that_runs_is_not_failed_by_another_worker(url: str) -> None:
    """RQ 1.16.1: a second worker's maintenance takes a job that was just popped for one that was lost."""
    failure = FAILED.judge(explore(two_workers, url=url, schedules=SCHEDULES))
    if failure:
        assert failure.schedule.faults == 0


def test_the_worker_of_the_command_line_is_an_actor(url: str, tmp_path: Path) -> None:
    """Unmodified, in a process of its own."""
    ran = tmp_path / "ran"

    def scenario(world: World) -> None:
        ran.unlink(missing_ok=True)
        rq.Queue("jobs", connection=world.redis).enqueue(Path.touch, ran)
        command = ["-m", "rq.cli", "worker", "--burst", "--worker-class", "rq.SimpleWorker", "--url", "{url}", "jobs"]
        world.process([sys.executable, *command], env={"PYTHONPATH": os.fspath(ROOT)}, name="rq worker")
        world.run()
        assert ran.exists()

    assert replay(scenario, "", url=url).error is None


def put_line(client: Any, body: bytes) -> None:
    """Enqueue a job for the workers of `apps.rq_command`."""
    rq.Queue("lines", connection=client).enqueue("tests.field.apps.rq_command.line", body.decode())


@concerns(TWICE)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_worker_raises_no_false_alarm(redisq: Redisq, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """The job that the worker had begun is neither lost nor doubled: it lies there, until RQ calls it failed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    worker = Command([sys.executable, "-m", "tests.field.apps.rq_command"])
    options: Any = {"consumers": 2, "messages": 40, "deadline_seconds": 120, "seed": seed}
    done = redisq.run((put_line, worker), faults=[redisq.kill_consumer(after_messages=15)], **options)
    verdict = done.verdict("at-most-once")
    assert verdict.outcome == "pass" or "1 in the hash rq:job:" in verdict.reasons[0], verdict
    assert "killed" in verdict.faults[0].words
