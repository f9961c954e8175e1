"""Every saboteur is caught, by the anomaly that it commits; the twin that does right passes."""

from __future__ import annotations

import pytest

from pytest_redisq.check import Contract, check
from tests.check.literals import found
from tests.saboteurs import (
    AcksBeforeTheWork,
    DeliversTwice,
    Drops,
    EnqueuesTwice,
    Garbles,
    InMemory,
    Invents,
    LiesAboutAcks,
    RedeliversAfterAck,
    Reorders,
    Saboteur,
    Sticks,
    SwapsBodies,
    drive,
)


@pytest.mark.parametrize("text", ["at-most-once, fifo", "at-least-once, fifo", "effectively-once, fifo"])
def test_the_twin_passes(text: str) -> None:
    for queue in (InMemory(), Saboteur(InMemory())):
        verdict = check(drive(queue), Contract.parse(text))
        assert (verdict.outcome, found(verdict)) == ("pass", {})


@pytest.mark.parametrize(
    ("saboteur", "contract", "anomalies"),
    [
        (Drops, "at-least-once", {"lost": 8}),
        (EnqueuesTwice, "effectively-once", {"duplicated": 10, "cloned": 10}),
        (EnqueuesTwice, "at-most-once", {"duplicated": 10, "cloned": 10}),
        (DeliversTwice, "at-most-once", {"duplicated": 10, "false-ack": 10}),
        (Invents, "at-most-once", {"unexpected": 2}),
        (Garbles, "at-least-once", {"lost": 10, "corrupted": 10}),
        (Reorders, "at-least-once, fifo", {"reordered": 10}),
        (Sticks, "at-least-once", {"stuck": 8}),
        (LiesAboutAcks, "at-least-once", {"false-ack": 10}),
        (RedeliversAfterAck, "at-least-once", {"duplicated": 15, "false-ack": 15}),
        (SwapsBodies, "at-most-once", {"wrong-id": 16}),
    ],
)
def test_a_saboteur_is_caught(saboteur: type[Saboteur], contract: str, anomalies: dict[str, int]) -> None:
    verdict = check(drive(saboteur(InMemory())), Contract.parse(contract))
    assert (verdict.outcome, found(verdict)) == ("fail", anomalies)


def test_who_acknowledges_before_the_work_is_caught_by_a_death_alone() -> None:
    contract = Contract.parse("effectively-once, fifo")
    alive = check(drive(AcksBeforeTheWork(InMemory())), contract)
    assert (alive.outcome, found(alive)) == ("pass", {})
    dead = check(drive(AcksBeforeTheWork(InMemory()), dies_holding=10), contract)
    assert (dead.outcome, found(dead)) == ("fail", {"forgotten": 1})
    twin = check(drive(InMemory(), dies_holding=10), contract)
    assert (twin.outcome, found(twin)) == ("pass", {"duplicated": 1})
