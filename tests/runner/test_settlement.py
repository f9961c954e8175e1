"""The report of a run on messages that are missing when its consumers have stopped."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import redis

from pytest_redisq.check import AnomalyKind, Verdict
from pytest_redisq.history import read_history, write_history
from pytest_redisq.report import explain
from pytest_redisq.runner import Run, run
from pytest_redisq.servers import Server
from tests.newcomers import (
    AbandonedGroup,
    AbandonedList,
    AbandonedSet,
    AsyncGroup,
    IdleConsumersGroup,
    LeasedSet,
    LongLease,
    MovedList,
    SilentGroup,
    WeeklyGroup,
)
from tests.runner.sample_queues import Dropping, Plain

KILLED = "kill-holding:consumer@10"


def run_killed(queue: Any, at: Any, *, workers: Any = "thread", settle_seconds: float = 0.2) -> Run:
    """A run whose consumer dies while it holds a message, and is replaced, long before the last message is sent."""
    faults = (KILLED,)
    return run(queue, at=at, messages=400, workers=workers, faults=faults, settle_seconds=settle_seconds)


def places_of(verdict: Verdict) -> list[str]:
    return [anomaly.place for anomaly in verdict.anomalies]


@pytest.mark.parametrize(
    ("queue", "workers"),
    [
        (MovedList, "thread"),
        (MovedList, "fork"),
        (AsyncGroup, "asyncio"),
        (WeeklyGroup, "asyncio"),
        (LeasedSet, "thread"),
    ],
)
def test_a_queue_with_a_long_lease_passes(server: Server, queue: Any, workers: Any) -> None:
    run_killed(queue, server, workers=workers).verify("at-least-once")


@pytest.mark.parametrize(
    ("queue", "workers", "place"),
    [
        (AbandonedList, "thread", "in the list doing:"),
        (AbandonedList, "fork", "in the list doing:"),
        (AbandonedGroup, "asyncio", "in the stream orders, pending to consumer "),
        (AbandonedSet, "thread", "in the zset running, which was due"),
    ],
)
def test_what_nothing_recovers_is_stuck_where_it_lies(server: Server, queue: Any, workers: Any, place: str) -> None:
    verdict = run_killed(queue, server, workers=workers).verdict("at-least-once")
    assert verdict.outcome == "fail"
    assert {kind: times for kind, times in verdict.counts.items() if times} == {AnomalyKind.STUCK: 1}
    assert places_of(verdict)[0].startswith(place)


def test_what_comes_back_by_the_idle_time_of_its_consumer_is_not_stuck(server: Server) -> None:
    verdict = run_killed(IdleConsumersGroup, server, workers="asyncio").verdict("at-least-once")
    assert verdict.outcome == "unknown"
    assert "1 in the stream orders, pending to consumer " in verdict.reasons[0]
    assert verdict.notes[0].startswith("a worker asks for the idle times of consumers (XINFO CONSUMERS)")


def test_a_lease_of_two_hours_is_aged_only_where_the_keys_are_ours(server: Server) -> None:
    run_killed(LongLease, server).verify("at-least-once")
    verdict = run_killed(LongLease, server.url).verdict("at-least-once")
    assert verdict.outcome == "unknown"
    assert verdict.reasons[0].startswith("1 messages could still be had from the queue: 1 in the zset running, due in ")
    (advice,) = [note for note in verdict.notes if "settle_seconds" in note]
    assert advice.startswith("1 message comes back in 2 h. Use a shorter lease")
    assert re.search(r"give settle_seconds=7\d{3}, and a longer deadline_seconds$", advice)


def test_a_message_that_is_still_pending_after_its_ack_is_told(server: Server) -> None:
    verdict = run(SilentGroup, at=server, messages=40, workers="asyncio").verdict("at-least-once")
    assert {kind: times for kind, times in verdict.counts.items() if times} == {AnomalyKind.FALSE_ACK: 1}
    assert places_of(verdict)[0].startswith("in the stream orders, pending to consumer ")
    assert "XACK was not sent for it" in explain(verdict)
    run(AsyncGroup, at=server, messages=40, workers="asyncio").verify("at-least-once")


class KeepsOne(MovedList):
    """The ack of one message does not remove it from the list of its worker."""

    def ack(self, body: bytes) -> None:
        if b" 0 1 " not in body:
            super().ack(body)


def test_a_pass_says_where_acknowledged_messages_still_lie(server: Server) -> None:
    verdict = run(KeepsOne, at=server, messages=40).verify("at-least-once")
    (note,) = verdict.notes
    assert note.startswith("1 acknowledged message lies in the list doing:")
    assert run(MovedList, at=server, messages=40).verify("at-least-once").notes == ()


class GroupReader:
    """A consumer group that the first get creates when entries are there.

    `start`: from where on it reads. `skips`: a get reads two entries, acknowledges both, and returns the second.
    """

    def __init__(self, client: redis.Redis, *, start: str, skips: bool) -> None:
        self.client = client
        self.start: str | None = start
        self.count = 2 if skips else 1

    def put(self, body: bytes) -> None:
        self.client.xadd("orders", {"body": body})

    def get(self, timeout_seconds: float) -> bytes | None:
        if self.start is not None and self.client.xread({"orders": "0"}, block=100):
            self.client.xgroup_create("orders", "billing", self.start)
            self.start = None
        if self.start is not None:
            return None
        block_ms = round(timeout_seconds * 1000)
        read: Any = self.client.xreadgroup("billing", "c", {"orders": ">"}, count=self.count, block=block_ms)
        if not read:
            return None
        entries = read[0][1]
        self.client.xack("orders", "billing", *(entry_id for entry_id, _ in entries))
        return bytes(entries[-1][1][b"body"])


@pytest.mark.parametrize(
    ("start", "skips", "hint"),
    [
        ("$", False, "at $ a group gets only entries that are added later"),
        ("0", True, "a consumer got it and did not return it"),
        ("0", False, ""),
    ],
)
def test_a_group_at_the_end_of_its_stream_is_blamed_only_where_one_was_made(
    server: Server, start: str, skips: bool, hint: str
) -> None:
    done = run(functools.partial(GroupReader, start=start, skips=skips), at=server, messages=200)
    verdict = done.verdict("at-least-once")
    assert verdict.outcome == ("fail" if hint else "pass")
    assert hint in explain(verdict)


def test_on_a_server_of_the_user_nothing_is_aged(server: Server) -> None:
    verdict = run_killed(AsyncGroup, server.url, workers="asyncio").verdict("at-least-once")
    assert verdict.outcome == "unknown"
    assert "1 in the stream orders, pending to consumer " in verdict.reasons[0]
    assert any("give settle_seconds more than the lease" in note for note in verdict.notes)
    with server.client() as client:
        reply: Any = client.xpending_range("orders", "billing", "-", "+", 9)
        (pending,) = reply
        assert pending["time_since_delivered"] < 60_000


def test_what_no_consumer_ever_takes_remains(server: Server) -> None:
    def put(client: redis.Redis, body: bytes) -> None:
        client.rpush("a", body)

    def get(client: redis.Redis, timeout_seconds: float) -> bytes | None:  # noqa: ARG001
        return None

    verdict = run((put, get), at=server, messages=50, settle_seconds=0.1).verdict("at-least-once")
    assert verdict.outcome == "unknown"
    assert verdict.reasons[0] == "50 messages could still be had from the queue: 50 in the list a"


def test_what_is_in_no_key_is_lost(server: Server) -> None:
    verdict = run(Dropping, at=server, messages=40).verdict("at-least-once")
    assert verdict.counts[AnomalyKind.LOST] == 1
    assert places_of(verdict) == ["in no key"]
    assert "it lies in no key" in explain(verdict)


def test_the_verdict_on_the_saved_history_is_the_same(server: Server, tmp_path: Path) -> None:
    done = run_killed(AbandonedSet, server)
    write_history(done.history, tmp_path / "run.jsonl")
    saved = read_history(tmp_path / "run.jsonl")
    assert saved.quiescence == done.history.quiescence
    assert done.verdict("at-least-once").outcome == "fail"


def test_a_run_that_misses_nothing_is_not_searched(server: Server) -> None:
    end = run(Plain, at=server, messages=40).history.quiescence
    assert end is not None
    assert end.search is None
