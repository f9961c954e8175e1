"""Profiles, and a stage for each example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

import tests.hypothesis_profiles  # noqa: F401  it loads one
from pytest_redisq.facade import Redisq
from tests.properties.stage import Stage

Staged = Callable[..., AbstractContextManager[tuple[Stage, Redisq]]]


@pytest.fixture(scope="session")
def staged(redisq_session: Redisq) -> Staged:
    """`with staged() as (stage, redisq)`: an empty namespace of the server, and a stage on it."""

    @contextmanager
    def begin(tick_seconds: float = 0.0) -> Iterator[tuple[Stage, Redisq]]:
        with redisq_session.example() as redisq, Stage(redisq.client, tick_seconds) as stage:
            yield stage, redisq

    return begin
