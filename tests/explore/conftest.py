"""A server for the explorer."""

from __future__ import annotations

import pytest

from pytest_redisq.facade import Redisq


@pytest.fixture
def url(redisq: Redisq) -> str:
    """A database that is this test's alone."""
    return redisq.url


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as wide as without a terminal: texts in them are cut to the width that COLUMNS tells, if it is set."""
    monkeypatch.delenv("COLUMNS", raising=False)
