"""Each saboteur is caught, and named by its anomaly, in run, explore and load."""

from __future__ import annotations

import pytest

from pytest_redisq.servers import Server
from tests.table.rows import Row, cases, tried
from tests.table.saboteurs import SABOTEURS


def test_there_are_enough_of_them() -> None:
    assert len({row.queue for row in SABOTEURS}) == len(SABOTEURS) >= 40


@pytest.mark.parametrize(("row", "driver"), cases(SABOTEURS))
def test_a_saboteur_is_caught(server: Server, monkeypatch: pytest.MonkeyPatch, row: Row, driver: str) -> None:
    outcome, broken = tried(row, driver, server, monkeypatch)
    assert (outcome, row.anomaly in broken) == ("fail", True), broken


@pytest.mark.parametrize(("row", "driver"), cases(SABOTEURS, all_drivers=True))
def test_it_is_caught_by_the_other_drivers(
    server: Server, monkeypatch: pytest.MonkeyPatch, row: Row, driver: str
) -> None:
    outcome, broken = tried(row, driver, server, monkeypatch)
    assert (outcome, row.anomaly in broken) == ("fail", True), broken
