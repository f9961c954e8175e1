"""The report of an exploration on missing messages: where they are, and which command had them last."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from pytest_redisq.errors import RedisqError, ScheduleError
from pytest_redisq.facade import Redisq
from tests.newcomers import (
    AbandonedGroup,
    AbandonedList,
    AbandonedSet,
    AsyncGroup,
    IdleConsumersGroup,
    LeasedSet,
    MovedList,
    SilentGroup,
    WeeklyGroup,
)
from tests.table.bounded import (
    CappedList,
    CappedListThatForgets,
    CappedReader,
    CappedReaderThatForgets,
    CappedStreamWithoutIds,
)


class LongMovedList(MovedList):
    """Its workers count as alive for two hours."""

    lease_seconds = 7_200


class PatientGroup(AsyncGroup):
    """It claims what has been pending for two hours."""

    lease_seconds = 7_200


@pytest.mark.parametrize("queue", [MovedList, LongMovedList, AsyncGroup, PatientGroup, WeeklyGroup, LeasedSet])
def test_a_queue_with_a_long_lease_holds(redisq: Redisq, queue: Any) -> None:
    redisq.explore(queue, contract="at-least-once", faults="kill", schedules=40, messages=2)


def test_what_comes_back_by_the_idle_time_of_its_consumer_is_not_stuck(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError, match="at-least-once unknown: 1 messages could still be had") as caught:
        redisq.explore(IdleConsumersGroup, contract="at-least-once", faults="kill", schedules=100, messages=2)
    assert "a worker asks for the idle times of consumers (XINFO CONSUMERS)" in str(caught.value)


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


class LooksThenTakes:
    """LINDEX, and then LPOP: right for one consumer alone."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush("orders", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        body: Any = self.client.lindex("orders", 0)
        if body is None:
            time.sleep(timeout_seconds)
        else:
            self.client.lpop("orders")
        return body  # type: ignore[no-any-return]


class LooksThenDrops(LooksThenTakes):
    """It removes one element too many each time it finds the second message."""

    def get(self, timeout_seconds: float) -> bytes | None:
        body = super().get(timeout_seconds)
        if body is not None and b" 0 1 " in body:
            self.client.lpop("orders")
        return body


def test_two_consumers_that_read_the_same_element_are_told(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError) as caught:
        redisq.explore(LooksThenTakes, contract="at-least-once", messages=4)
    shown = str(caught.value).partition("What the schedule shows:")[2]
    assert "consumer and " in shown
    assert "read the same element in steps " in shown
    with pytest.raises(ScheduleError, match="lost") as caught:
        redisq.explore(LooksThenDrops, contract="at-least-once", messages=4, consumers=1)
    assert "read the same element" not in str(caught.value)


def test_a_get_that_returns_nothing_at_once_is_told(redisq: Redisq) -> None:
    def put(client: redis.Redis, body: bytes) -> None:
        client.rpush("orders", body)

    def get(client: redis.Redis, timeout_seconds: float) -> None:
        """It never asks, and does not wait."""

    with pytest.raises(RedisqError, match="returned None 1,000 times in a row, and neither sent a command nor waited"):
        redisq.explore((put, get), contract="at-most-once", schedules=1)


class CappedAtTwo(CappedList):
    """Its commands are single steps."""

    keeps = 2

    def put(self, body: bytes) -> None:
        self.client.rpush("log", body)
        self.client.ltrim("log", -self.keeps, -1)


def test_the_command_that_removed_a_message_is_told(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError) as caught:
        redisq.explore(CappedAtTwo, contract="at-least-once", schedules=100)
    told = str(caught.value)
    assert "1 lost" in told
    assert "it lies in no key" in told
    assert "A producer: LTRIM log -2 -1" in told.partition("What the schedule shows:")[2]
    redisq.explore(CappedAtTwo, contract="at-least-once, bounded", schedules=20)


class AtOnce(CappedList):
    """Its commands are one transaction."""

    keeps = 2


class Nameless(CappedStreamWithoutIds):
    keeps = 2


class ForgetsTheFirst(CappedListThatForgets):
    keeps = 2
    forgets = 1


@pytest.mark.parametrize("queue", [AtOnce, Nameless])
def test_what_a_bound_removed_is_excused_also_without_ids(redisq: Redisq, queue: Any) -> None:
    redisq.explore(queue, contract="at-least-once, bounded", schedules=20, messages=5)
    with pytest.raises(ScheduleError, match="lost"):
        redisq.explore(queue, contract="at-least-once", schedules=20, messages=5)


def test_what_a_consumer_took_and_forgot_is_not_excused(redisq: Redisq) -> None:
    with pytest.raises(ScheduleError, match=r"a consumer was handed messages \(.*\) that its get did not return"):
        redisq.explore(ForgetsTheFirst, contract="at-least-once, bounded", schedules=20, messages=5)


class ReaderForgetsTheSecond(CappedReaderThatForgets):
    keeps = 2
    forgets = 2


class Reader(CappedReader):
    keeps = 2


def test_what_a_reader_read_and_forgot_is_not_excused(redisq: Redisq) -> None:
    redisq.explore(Reader, contract="fan-out, bounded", schedules=20, messages=5)
    with pytest.raises(ScheduleError, match="that its get did not return"):
        redisq.explore(ReaderForgetsTheSecond, contract="fan-out, bounded", schedules=20, messages=5)
