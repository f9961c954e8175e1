"""Bursts that Hypothesis draws, in orders that the explorer chooses, by real clients in the schedule's time."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.explore import World
from pytest_redisq.facade import Redisq
from pytest_redisq.properties import Burst, bursts
from pytest_redisq.queues import Stream

pytestmark = pytest.mark.server

EVENTS = Stream("s", after="0")


def add(client: Any, mine: list[Burst]) -> int:
    """One producer: seconds of the schedule pass between its bursts, and nothing is waited for."""
    for burst in mine:
        time.sleep(burst.gap_seconds)
        with client.pipeline(transaction=burst.at_once) as together:
            for number in range(burst.size):
                together.xadd("s", {"body": f"{burst.producer} {number}"})
            together.execute()
    return sum(burst.size for burst in mine)


def read(client: Any, total: int) -> list[str]:
    with EVENTS.bind(client) as reader:
        return [str(delivery.id) for _ in range(total) if (delivery := reader.get(100)) is not None]


@given(drawn=bursts(producers=2, max_bursts=3, max_size=3, max_gap_seconds=5), readers=st.integers(1, 2))
@settings(max_examples=max(8, settings().max_examples // 10))
def test_every_reader_gets_every_entry_whatever_the_gaps(
    redisq_session: Redisq, drawn: list[Burst], readers: int
) -> None:
    total = sum(burst.size for burst in drawn)

    def scenario(world: World) -> None:
        reading = [world.actor(read, total) for _ in range(readers)]
        for producer in sorted({burst.producer for burst in drawn}):
            world.actor(add, [burst for burst in drawn if burst.producer == producer])
        world.run()
        there: Any = world.redis.xrange("s")
        for reader in reading:
            assert reader.result == [entry_id.decode() for entry_id, _ in there]

    with redisq_session.example() as redisq:
        redisq.explore(scenario, schedules=3)
