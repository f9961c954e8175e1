"""Each environment of tox has one library: the tests of the others are not collected."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from pytest_redisq.facade import Redisq

LIBRARIES = ("arq", "celery", "dramatiq", "huey", "kombu", "rq", "saq", "taskiq_redis")

collect_ignore = [f"test_{library}.py" for library in LIBRARIES if find_spec(library) is None]


@pytest.fixture
def url(redisq: Redisq) -> str:
    """A database that is this test's alone."""
    return redisq.url
