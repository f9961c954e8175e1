"""kombu: publish, consume, close, crash or die while restoring, recover; every message is handled."""

from __future__ import annotations

import time
from typing import Any

import kombu
import pytest

from pytest_redisq.explore import World, explore
from tests.field.releases import SCHEDULES, Bug, concerns

UNREAD = Bug(library="kombu", broken="5.3.1", fixed="5.3.2")
REQUEUED = Bug(library="kombu", broken="5.2.2", fixed="5.2.3")

#: What a release of its time may still do.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

#: When what a dead consumer held is looked for, in seconds: kombu has a lock of 5 minutes on looking.
RECOVERY_SECONDS = 1_000

handled: list[Any] = []


class Poller:
    """kombu's own poller, by the schedule's clock: it looks once a second."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)

    def poll(self, _timeout: float | None) -> Any:
        """The messages that have come within a second, which is the longest wait of kombu here."""
        time.sleep(1)
        return self._poller.poll(0)


def connect(url: str, **options: Any) -> kombu.Connection:
    connection = kombu.Connection(url, transport_options=options)
    cycle = connection.transport.cycle
    cycle.poller = Poller(cycle.poller)
    return connection


def produce(url: str) -> None:
    with kombu.Connection(url) as connection, connection.SimpleQueue("jobs") as queue:
        queue.put("one")
        time.sleep(2)
        queue.put("two")


def handle(body: Any, message: Any) -> None:
    handled.append(body)
    message.ack()


def consume(url: str, looks: int, **options: Any) -> None:
    """Look for messages so many times, take a second for winding up, then close."""
    with connect(url, **options) as connection, connection.Consumer(kombu.Queue("jobs"), callbacks=[handle]):
        for _ in range(looks):
            try:
                connection.drain_events(timeout=0)
            except TimeoutError:
                continue
        time.sleep(1)


def recover(url: str) -> None:
    """Another consumer, when what a dead one held may be seen again."""
    time.sleep(RECOVERY_SECONDS)
    consume(url, 12, visibility_timeout=0)


def crash(url: str) -> None:
    """Take what there is, and end without a word about it."""
    with kombu.Connection(url) as connection, connection.SimpleQueue("jobs") as queue:
        queue.channel.do_restore = False
        queue.get(timeout=1)


def restore(url: str) -> None:
    """Restore the messages that no consumer has acknowledged."""
    with kombu.Connection(url, transport_options={"visibility_timeout": 0}) as connection:
        connection.default_channel.qos.restore_visible()


def close_early(world: World) -> None:
    """A consumer closes while messages come; another one takes what is left."""
    handled.clear()
    world.actor(produce, gets="url")
    world.actor(consume, 2, gets="url", name="consumer")
    world.run()
    recover_all(world)


def die_restoring(world: World) -> None:
    """A consumer crashes; the consumer that restores its message may die too; a third one takes it."""
    handled.clear()
    world.actor(produce, gets="url")
    world.run()
    world.actor(crash, gets="url")
    world.run()
    world.actor(restore, gets="url", name="restorer")
    world.run()
    recover_all(world)


def recover_all(world: World) -> None:
    world.actor(recover, gets="url")
    world.run()
    assert {"one", "two"} <= set(handled), f"handled: {handled}"


@concerns(UNREAD)
@pytest.mark.timeout(600)
def test_a_consumer_that_closes_loses_no_message(url: str) -> None:
    """kombu 5.3.1: a BRPOP that was sent gets its message, and no consumer reads the reply."""
    failure = UNREAD.judge(explore(close_early, url=url, schedules=SCHEDULES))
    if failure:
        assert failure.schedule.faults == 0


@concerns(REQUEUED)
@pytest.mark.timeout(600)
def test_who_dies_while_restoring_loses_no_message(url: str) -> None:
    """kombu 5.2.2: taken from the unacknowledged first, put into the queue then; between them it is nowhere."""
    failure = REQUEUED.judge(explore(die_restoring, url=url, faults="kill:restorer", schedules=SCHEDULES))
    if failure:
        assert failure.schedule.faults == 1
