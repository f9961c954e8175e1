"""Contracts: how they are written, and what the table says breaks them."""

from __future__ import annotations

from typing import get_args

import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.check import LAWS, AnomalyKind, Contract, ContractText, Guarantee


@pytest.mark.parametrize(
    ("text", "contract"),
    [
        ("at-least-once", Contract(guarantee=Guarantee.AT_LEAST_ONCE)),
        (" FIFO, At Most Once ", Contract(guarantee=Guarantee.AT_MOST_ONCE, fifo=True)),
        ("effectively_once,fifo", Contract(guarantee=Guarantee.EFFECTIVELY_ONCE, fifo=True)),
        ("fan-out, bounded", Contract(guarantee=Guarantee.FAN_OUT, bounded=True)),
    ],
)
def test_a_contract_is_read_in_whatever_spelling_people_use(text: str, contract: Contract) -> None:
    assert Contract.parse(text) == contract
    assert Contract.parse(str(contract)) == contract


def test_each_text_that_a_type_checker_knows_is_a_contract() -> None:
    texts = [text for literal in get_args(ContractText) for text in get_args(literal)]
    assert "at-least-once, fifo, live=30s" in texts
    for text in texts:
        assert sorted(str(Contract.parse(text)).split(", ")) == sorted(text.replace("=10s", "").split(", "))


@pytest.mark.parametrize(
    "text",
    [
        "at-leest-once",
        "exactly once",
        "",
        "fifo",
        "at-least-once, at-most-once",
        "at-least-once, fiffo",
        "at-least-once fifo",
    ],
)
def test_a_contract_that_cannot_be_read_is_explained(text: str, snapshot: SnapshotAssertion) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Contract.parse(text)
    assert str(caught.value) == snapshot


def test_which_anomaly_breaks_which_contract(snapshot: SnapshotAssertion) -> None:
    """The whole table, so that a change to it is seen."""
    contracts = [Contract(guarantee=guarantee) for guarantee in Guarantee]
    rows = [f"{kind:18}" + "".join(" x" if each.forbids(kind) else " -" for each in contracts) for kind in LAWS]
    assert "\n".join(["  ".join(map(str, contracts)), *rows]) == snapshot


def test_order_is_owed_only_where_promised_and_entries_only_where_not_bounded() -> None:
    assert Contract.parse("at-most-once, fifo").forbids(AnomalyKind.REORDERED)
    assert not Contract.parse("at-least-once").forbids(AnomalyKind.REORDERED)
    assert Contract.parse("fan-out").forbids(AnomalyKind.TRIMMED)
    assert not Contract.parse("fan-out, bounded").forbids(AnomalyKind.TRIMMED)
