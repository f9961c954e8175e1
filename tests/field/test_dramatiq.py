"""Dramatiq: send, work, kill a worker or lose a reply, recover; every job runs. And its worker as an actor."""

from __future__ import annotations

import time
from typing import Any

import pytest
from dramatiq.brokers.redis import RedisBroker
from dramatiq.worker import ConsumerThread

from pytest_redisq.explore import World, explore
from tests.field import jobs
from tests.field.apps.dramatiq_app import actor_on
from tests.field.programs import runs_a_job
from tests.field.releases import SCHEDULES, Bug, concerns, place

TWICE = Bug(library="dramatiq", broken="2.2.1", fixed=None)
HELD = Bug(library="dramatiq", broken="2.2.1", fixed=None)

#: Seconds without a heartbeat after which a worker counts as dead; each worker polls every two seconds.
HEARTBEAT_SECONDS, IDLE_SECONDS = 6, 2
#: For how long workers live in the scenario: several times as long as the recovery of a dead one's messages takes.
LIFE_SECONDS = 25


class Life(ConsumerThread):
    """Dramatiq's consumer as it is, but in an actor's thread, and with an end."""

    def __init__(self, broker: RedisBroker) -> None:
        idle_ms = IDLE_SECONDS * 1_000
        super().__init__(broker=broker, queue_name="default", prefetch=1, work_queue=self, worker_timeout=idle_ms)
        self._end = time.monotonic() + LIFE_SECONDS

    def put(self, item: Any) -> None:
        """Processes a message as a worker's thread does."""
        jobs.run(*item.message.args)
        self.post_process_message(item.message)

    def handle_delayed_messages(self) -> None:
        """Called after each look for messages."""
        self.running = time.monotonic() < self._end


def produce(url: str) -> None:
    broker = RedisBroker(**place(url))
    actor_on(broker).send(1)
    broker.client.close()


def send(world: World) -> None:
    """After any network fault, a message that is sent once is in the queue once."""
    world.actor(produce, gets="url")
    world.run()
    assert world.redis.llen("dramatiq:default") <= 1


def work(url: str) -> None:
    # Each look for messages looks for dead workers, too, which is left to chance otherwise.
    options = {"heartbeat_timeout": HEARTBEAT_SECONDS * 1_000, "maintenance_chance": 1_000_000}
    broker = RedisBroker(**options, **place(url))
    actor_on(broker)
    Life(broker).run()
    broker.client.close()


def two_workers(world: World) -> None:
    """After any fault of one of two workers, the message is processed within a few heartbeats."""
    jobs.runs.clear()
    world.actor(produce, gets="url")
    world.run()
    world.actor(work, gets="url", name="worker")
    world.actor(work, gets="url", name="other")
    world.run()
    assert 1 in jobs.runs, "the job has not run"


@concerns(TWICE)
def test_one_lost_reply_sends_once(url: str) -> None:
    """Dramatiq 2.2.1 under redis-py 8.1: its script is run again, and the message is in the queue twice."""
    failure = TWICE.judge(explore(send, url=url, faults="lost-reply", schedules=SCHEDULES))
    assert failure
    assert failure.schedule.faults == 1


@concerns(HELD)
@pytest.mark.timeout(600)
def test_a_worker_that_loses_a_reply_keeps_no_message_to_itself(url: str) -> None:
    """Dramatiq 2.2.1: what a fetch has noted with a worker that never saw it stays there for as long as that lives."""
    failure = HELD.judge(explore(two_workers, url=url, faults="lost-reply:worker", schedules=SCHEDULES))
    assert failure
    assert failure.schedule.faults == 1


@concerns(HELD)
@pytest.mark.timeout(600)
def test_what_a_killed_worker_held_comes_back(url: str) -> None:
    """The same scenario, in which the worker's heartbeat ends."""
    explore(two_workers, url=url, faults="kill:worker", schedules=SCHEDULES).verify()


@pytest.mark.timeout(60)
def test_the_worker_of_the_command_line_is_an_actor(url: str) -> None:
    """Unmodified: a master process, the worker that it forks, and its threads."""
    runs_a_job(url, produce, "-m", "dramatiq", "tests.field.apps.dramatiq_worker", "--processes", "1", "--threads", "1")
