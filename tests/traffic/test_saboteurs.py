"""Each saboteur is caught through a run upon a real server, with threads and with processes."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_redisq.check import AnomalyKind
from pytest_redisq.errors import DeliveryError
from pytest_redisq.queues import StreamGroup
from pytest_redisq.servers import Server
from pytest_redisq.traffic import run
from tests import saboteurs

QUEUE = StreamGroup("jobs", group="workers", claim_idle_seconds=0.2)


class Around:
    """Makes a saboteur around each worker's own end of a correct queue."""

    def __init__(self, saboteur: type[saboteurs.Saboteur]) -> None:
        self.saboteur = saboteur

    def __call__(self, client: Any) -> Any:
        end = QUEUE.bind(client)
        made: Any = self.saboteur(end)
        made.remaining, made.close = end.remaining, end.close
        return made


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
        (saboteurs.SwapsBodies, "at-least-once", AnomalyKind.CORRUPTED),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_saboteurs_are_caught(server: Server, saboteur: Any, contract: str, anomaly: AnomalyKind, workers: Any) -> None:
    done = run(Around(saboteur), at=server, messages=60, workers=workers, settle_seconds=0.5)
    with pytest.raises(DeliveryError):
        done.verify(contract)
    assert done.verdict(contract).counts[anomaly] > 0


@pytest.mark.parametrize("workers", ["thread", "fork"])
def test_their_correct_twin_passes(server: Server, workers: Any) -> None:
    run(Around(saboteurs.Saboteur), at=server, messages=60, workers=workers).verify("effectively-once, fifo")
