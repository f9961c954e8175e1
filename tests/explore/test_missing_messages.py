"""The report of an exploration on missing messages: where they are, and which command had them last."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pytest_redisq.errors import ScheduleError
from pytest_redisq.facade import Redisq
from tests.newcomers import AbandonedGroup, AbandonedList, AbandonedSet, AsyncGroup, LeasedSet, MovedList, SilentGroup


@pytest.mark.parametrize("queue", [MovedList, AsyncGroup, LeasedSet])
def test_a_queue_with_a_long_lease_holds(redisq: Redisq, queue: Any) -> None:
    redisq.explore(queue, contract="at-least-once", faults="kill", schedules=40, messages=2)


@pytest.mark.parametrize(
    ("queue", "place"),
    [
        (AbandonedList, "it lies in the list doing:"),
        (AbandonedGroup, "it lies in the stream orders, pending to consumer "),
        (AbandonedSet, "it lies in the zset running"),
    ],
)
def test_what_nothing_recovers_is_stuck_where_it_lies(redisq: Redisq, queue: Any, place: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        redisq.explore(queue, contract="at-least-once", faults="kill", schedules=100, messages=2)
    told = str(caught.value)
    assert "1 stuck" in told
    assert place in told


def test_a_message_that_is_still_pending_after_its_ack_is_told(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError, match="1 false-ack"):
        redisq.explore(SilentGroup, contract="at-least-once", schedules=1, messages=2)


class Capped:
    """A list that keeps the two newest messages."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush("log", body)
        self.client.ltrim("log", -2, -1)

    def get(self, timeout_seconds: float) -> bytes | None:
        popped: Any = self.client.blpop(["log"], timeout=timeout_seconds)
        return None if popped is None else popped[1]


def test_the_command_that_removed_a_message_is_told(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError) as caught:
        redisq.explore(Capped, contract="at-least-once", schedules=100)
    told = str(caught.value)
    assert "1 lost" in told
    assert "it lies in no key" in told
    assert "A producer: LTRIM log -2 -1" in told.partition("What the schedule shows:")[2]
    redisq.explore(Capped, contract="at-least-once, bounded", schedules=20)
