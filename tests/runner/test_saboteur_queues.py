"""A run on a real server catches each saboteur, with threads and with processes."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_redisq.check import AnomalyKind
from pytest_redisq.errors import DeliveryError
from pytest_redisq.queues import Stream, StreamGroup
from pytest_redisq.runner import run
from pytest_redisq.servers import Server
from tests import saboteurs

QUEUE = StreamGroup("jobs", group="workers", claim_idle_seconds=0.2)


@pytest.mark.parametrize("workers", ["thread", "fork"])
@pytest.mark.parametrize(
    ("saboteur", "contract", "anomaly"),
    [
        (saboteurs.Drops, "at-least-once", AnomalyKind.LOST),
        (saboteurs.EnqueuesTwice, "effectively-once", AnomalyKind.CLONED),
        (saboteurs.DeliversTwice, "at-most-once", AnomalyKind.DUPLICATED),
        (saboteurs.Garbles, "at-least-once", AnomalyKind.CORRUPTED),
        (saboteurs.Reorders, "at-least-once, fifo", AnomalyKind.REORDERED),
        (saboteurs.Sticks, "at-least-once", AnomalyKind.STUCK),
        (saboteurs.LiesAboutAcks, "at-least-once", AnomalyKind.FALSE_ACK),
        (saboteurs.RedeliversAfterAck, "at-least-once", AnomalyKind.FALSE_ACK),
        (saboteurs.SwapsBodies, "at-least-once", AnomalyKind.WRONG_ID),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_saboteurs_are_caught(server: Server, saboteur: Any, contract: str, anomaly: AnomalyKind, workers: Any) -> None:
    done = run(saboteurs.Around(saboteur, QUEUE), at=server, messages=60, workers=workers, settle_seconds=0.5)
    with pytest.raises(DeliveryError):
        done.verify(contract)
    assert done.verdict(contract).counts[anomaly] > 0


@pytest.mark.parametrize("workers", ["thread", "fork"])
def test_their_correct_twin_passes(server: Server, workers: Any) -> None:
    run(saboteurs.Around(saboteurs.Saboteur, QUEUE), at=server, messages=60, workers=workers).verify(
        "effectively-once, fifo"
    )


@pytest.mark.parametrize("workers", ["thread", "fork"])
@pytest.mark.parametrize(
    ("saboteur", "contract", "anomaly"),
    [
        (saboteurs.Reorders, "fan-out, fifo", AnomalyKind.REORDERED),
        (saboteurs.Reorders, "fan-out", AnomalyKind.NONMONOTONIC_POLL),
        (saboteurs.Drops, "fan-out", AnomalyKind.POLL_SKIP),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_saboteurs_of_readers_are_caught(
    server: Server, saboteur: Any, contract: str, anomaly: AnomalyKind, workers: Any
) -> None:
    broken = saboteurs.Around(saboteur, Stream("broken", after="0"))
    done = run(broken, at=server, messages=60, workers=workers, settle_seconds=0.5)
    assert done.verdict(contract).counts[anomaly] > 0
    right = saboteurs.Around(saboteurs.Saboteur, Stream("right", after="0"))
    run(right, at=server, messages=60, workers=workers).verify("fan-out, fifo")
