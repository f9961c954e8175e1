"""The saboteurs around the supplied queues, on a real server: each is caught, and the queue alone passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import redis

from pytest_redisq.check import Contract, Verdict, check
from pytest_redisq.queues import ReliableList, StreamGroup
from tests.saboteurs import (
    Drops,
    EnqueuesTwice,
    Garbles,
    Inner,
    Invents,
    LiesAboutAcks,
    RedeliversAfterAck,
    Reorders,
    Saboteur,
    Sticks,
    SwapsBodies,
    drive,
)

LIST, GROUP = ReliableList("jobs"), StreamGroup("jobs", "workers")
QUEUES = pytest.mark.parametrize("queue", [LIST, GROUP], ids=["list", "group"])
Bind = Callable[[ReliableList | StreamGroup], Inner]


@pytest.fixture
def bind(client: redis.Redis) -> Iterator[Bind]:
    """Binds a queue, and closes it at the end: its heartbeat would write into the next test's server."""
    with contextlib.ExitStack() as held:
        yield lambda queue: held.enter_context(queue.bind(client, "worker"))


def judged(queue: Inner, contract: str) -> Verdict:
    return check(drive(queue), Contract.parse(contract))


@QUEUES
def test_the_queue_alone_passes(bind: Bind, queue: ReliableList | StreamGroup) -> None:
    verdict = judged(bind(queue), "effectively-once, fifo")
    assert (verdict.outcome, verdict.totals.delivered, sum(verdict.counts.values())) == ("pass", 30, 0)


@QUEUES
@pytest.mark.parametrize(
    ("saboteur", "contract", "anomaly"),
    [
        (Drops, "at-least-once", "lost"),
        (EnqueuesTwice, "effectively-once", "cloned"),
        (Garbles, "at-least-once", "corrupted"),
        (Invents, "at-most-once", "unexpected"),
        (Reorders, "at-least-once, fifo", "reordered"),
        (Sticks, "at-least-once", "stuck"),
        (LiesAboutAcks, "at-least-once", "false-ack"),
    ],
)
def test_a_saboteur_is_caught(
    bind: Bind, queue: ReliableList | StreamGroup, saboteur: type[Saboteur], contract: str, anomaly: str
) -> None:
    verdict = judged(saboteur(bind(queue)), contract)
    assert verdict.outcome == "fail"
    assert {str(kind): times for kind, times in verdict.counts.items()}[anomaly] > 0


@pytest.mark.parametrize(("saboteur", "anomaly"), [(RedeliversAfterAck, "false-ack"), (SwapsBodies, "wrong-id")])
def test_ids_give_away_what_lists_could_not_tell(bind: Bind, saboteur: type[Saboteur], anomaly: str) -> None:
    verdict = judged(saboteur(bind(GROUP)), "at-least-once")
    assert {str(kind): times for kind, times in verdict.counts.items()}[anomaly] > 0
