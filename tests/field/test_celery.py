"""Celery: send, lose a reply; the task is in the queue once. And its worker as an actor."""

from __future__ import annotations

import pytest
from celery import Celery

from pytest_redisq.explore import World, explore
from tests.field.programs import runs_a_job
from tests.field.releases import SCHEDULES, Bug, concerns

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
