"""A server for the explorer."""

from __future__ import annotations

import pytest

from pytest_redisq.facade import Redisq


@pytest.fixture
def url(redisq: Redisq) -> str:
    """A database that is this test's alone."""
    return redisq.url
