"""Deaf consumers are found by schedules with faults; correct queues are live under all of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis

from pytest_redisq.errors import DeliveryError, ScheduleError
from pytest_redisq.facade import Redisq
from pytest_redisq.queues import BlockingList, ReliableList, StreamGroup

Client = Any
LIVE = "at-most-once, live"


class Reconnecting:
    """The correct twin: pops from a list, and goes on after a lost connection."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.deaf = False

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        if self.deaf:
            return self.get_deaf(timeout_seconds)
        try:
            return self.take(timeout_seconds)
        except redis.ConnectionError:
            self.deaf = True
            return None

    def take(self, timeout_seconds: float) -> bytes | None:
        found = self.client.blpop(["jobs"], timeout_seconds)
        return found[1] if found else None

    def get_deaf(self, timeout_seconds: float) -> bytes | None:
        self.deaf = False
        return self.take(timeout_seconds)


class Sleeps(Reconnecting):
    """Has lost its connection once, and then asks no more."""

    def get_deaf(self, timeout_seconds: float) -> bytes | None:
        time.sleep(timeout_seconds)
        return None


class AsksElsewhere(Reconnecting):
    """Has lost its connection once, and then asks another key."""

    def get_deaf(self, timeout_seconds: float) -> bytes | None:
        time.sleep(timeout_seconds)
        return self.client.lpop("elsewhere")  # type: ignore[no-any-return]


class SleepsAsync(Sleeps):
    """The same in coroutines."""

    async def put(self, body: bytes) -> None:  # type: ignore[override]
        await self.client.rpush("jobs", body)

    async def get(self, timeout_seconds: float) -> bytes | None:  # type: ignore[override]
        if self.deaf:
            await asyncio.sleep(timeout_seconds)
            return None
        try:
            found = await self.client.blpop(["jobs"], timeout_seconds)
        except redis.ConnectionError:
            self.deaf = True
            return None
        return found[1] if found else None


@pytest.mark.parametrize(
    ("queue", "faults"),
    [(Sleeps, "drop:consumer"), (AsksElsewhere, "restart:server"), (SleepsAsync, "drop:consumer")],
)
def test_a_deaf_consumer_is_found(redisq: Redisq, queue: Any, faults: Any) -> None:
    with pytest.raises(ScheduleError, match="consumer: took nothing after") as caught:
        redisq.explore(queue, contract=LIVE, messages=2, faults=faults, schedules=60)
    assert isinstance(caught.value.__cause__, DeliveryError)


@pytest.mark.parametrize(
    "faults", ["drop:consumer", "restart:server", "kill:consumer", "pause:consumer", "lost-reply:consumer"]
)
def test_a_correct_twin_is_live(redisq: Redisq, faults: Any) -> None:
    redisq.explore(Reconnecting, contract=LIVE, messages=2, faults=faults, schedules=15)


@pytest.mark.parametrize(
    "queue", [ReliableList("jobs", lease_seconds=5.0), StreamGroup("jobs", group="workers", claim_idle_seconds=5.0)]
)
def test_supplied_queues_are_live(redisq: Redisq, queue: Any) -> None:
    options: dict[str, Any] = {"messages": 2, "schedules": 15, "max_faults": 2}
    redisq.explore(
        queue, contract="at-least-once, live", faults="kill:consumer, drop:consumer, pause:consumer", **options
    )


def test_without_faults_liveness_is_unknown(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError, match="deaf could not be judged: no fault struck"):
        redisq.explore(BlockingList("jobs"), contract=LIVE, messages=2, schedules=3)
