"""The saboteurs around the supplied queues, on a real server: each is caught, and the queue alone passes."""

from __future__ import annotations

from collections.abc import Callable

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

Make = Callable[[redis.Redis], Inner]


def reliable_list(client: redis.Redis) -> Inner:
    return ReliableList("jobs").bind(client, "worker")


def stream_group(client: redis.Redis) -> Inner:
    return StreamGroup("jobs", "workers").bind(client, "worker")


def judged(queue: Inner, contract: str) -> Verdict:
    return check(drive(queue), Contract.parse(contract))


@pytest.mark.parametrize("make", [reliable_list, stream_group])
def test_the_queue_alone_passes(make: Make, client: redis.Redis) -> None:
    verdict = judged(make(client), "effectively-once, fifo")
    assert (verdict.outcome, verdict.totals.delivered, sum(verdict.counts.values())) == ("pass", 30, 0)


@pytest.mark.parametrize("make", [reliable_list, stream_group])
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
    make: Make, saboteur: type[Saboteur], contract: str, anomaly: str, client: redis.Redis
) -> None:
    verdict = judged(saboteur(make(client)), contract)
    assert verdict.outcome == "fail"
    assert {str(kind): times for kind, times in verdict.counts.items()}[anomaly] > 0


@pytest.mark.parametrize(("saboteur", "anomaly"), [(RedeliversAfterAck, "false-ack"), (SwapsBodies, "wrong-id")])
def test_ids_give_away_what_lists_could_not_tell(saboteur: type[Saboteur], anomaly: str, client: redis.Redis) -> None:
    verdict = judged(saboteur(stream_group(client)), "at-least-once")
    assert {str(kind): times for kind, times in verdict.counts.items()}[anomaly] > 0
