"""Celery: send, lose a reply; the task is in the queue once. And its worker as an actor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from pytest_redisq.check import AnomalyKind
from pytest_redisq.explore import World, explore
from pytest_redisq.facade import Redisq
from pytest_redisq.runner import Command
from tests.field.programs import runs_a_job
from tests.field.releases import SCHEDULES, Bug, concerns

ROOT = Path(__file__).parents[2]
TWICE = Bug(library="kombu", broken="5.7.0", fixed=None)


def produce(url: str) -> None:
    with Celery("field", broker=url, set_as_current=False) as app:
        app.send_task("run", args=(1,))


def send(world: World) -> None:
    """After any network fault, a task that is sent once is in the queue once."""
    world.actor(produce, gets="url")
    world.run()
    assert world.redis.llen("celery") <= 1


@concerns(TWICE)
def test_one_lost_reply_sends_once(url: str) -> None:
    """Celery with kombu 5.7.0 under redis-py 8.1: LPUSH is done again, and the task is in the queue twice."""
    failure = TWICE.judge(explore(send, url=url, faults="lost-reply", schedules=SCHEDULES))
    assert failure
    assert failure.schedule.faults == 1
    assert [event.args[0] for event in failure.ran.events if event.args[0] == b"LPUSH"] == [b"LPUSH"] * 2


@pytest.mark.timeout(60)
def test_the_worker_of_the_command_line_is_an_actor(url: str) -> None:
    """Unmodified, in a process of its own."""
    options = ["--pool", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    runs_a_job(url, produce, "-m", "celery", "--app", "tests.field.apps.celery_app", "worker", *options)


def put_line(client: Any, body: bytes) -> None:
    """Send a task to the workers of `apps.celery_command`."""
    address = client.connection_pool.connection_kwargs
    broker = f"redis://:{address['password']}@{address['host']}:{address['port']}/{address['db']}"
    with Celery(broker=broker) as app:
        app.send_task("line", [body.decode()])


@concerns(TWICE)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_worker_raises_no_false_alarm(redisq: Redisq, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """It acknowledges after the job, and what a dead worker held is restored.

    One message may be gone with its worker: kombu had popped it, and not yet noted it as unacknowledged.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    worker = Command([sys.executable, "-m", "tests.field.apps.celery_command"])
    options: Any = {"consumers": 2, "messages": 40, "deadline_seconds": 120, "seed": seed}
    done = redisq.run((put_line, worker), faults=[redisq.kill_consumer(after_messages=15)], **options)
    verdict = done.verdict("at-least-once")
    assert {kind: times for kind, times in verdict.counts.items() if times} in ({}, {AnomalyKind.INDETERMINATE: 1})
    assert "killed" in verdict.faults[0].words
