"""No false alarm: public patterns, cured where they were broken, pass in run, explore and load."""

from __future__ import annotations

import pytest

from pytest_redisq.servers import Server
from tests.table.rows import Row, cases, tried
from tests.table.twins import TWINS


@pytest.mark.parametrize(("row", "driver"), cases(TWINS))
def test_a_correct_pattern_passes(server: Server, monkeypatch: pytest.MonkeyPatch, row: Row, driver: str) -> None:
    assert tried(row, driver, server, monkeypatch) == ("pass", set())


@pytest.mark.parametrize(("row", "driver"), cases(TWINS, all_drivers=True))
def test_it_passes_by_the_other_drivers(server: Server, monkeypatch: pytest.MonkeyPatch, row: Row, driver: str) -> None:
    assert tried(row, driver, server, monkeypatch) == ("pass", set())
