"""A process of a load run fails as a whole only if each of its producers does, in one way, and nothing succeeds."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_redisq.load.engine.failure_tracker import FailureTracker

REFUSED = "OOM at 17 bytes"


def fail(*workers: str, error: str = REFUSED) -> Any:
    def act(tracker: FailureTracker) -> None:
        for worker in workers:
            tracker.fail(worker, error, producing=worker.startswith("producer"))

    return act


def succeed(tracker: FailureTracker) -> None:
    tracker.succeed(consumers=True)


@pytest.mark.parametrize(
    ("acts", "producers", "found"),
    [
        ([fail("producer 1", "producer 2")], 2, REFUSED),
        ([fail("producer 1", "producer 2", "consumer")], 2, REFUSED),
        ([fail("producer 1"), fail("producer 2", error="OOM at 4 bytes")], 2, REFUSED),
        ([fail("producer 1")], 2, ""),
        ([fail("producer 1", "producer 2"), succeed], 2, ""),
        (
            [fail("producer 1", "producer 2"), succeed, fail("producer 1")],
            2,
            "",
        ),
        ([fail("producer 1", "producer 2"), fail("consumer", error="NOGROUP")], 2, ""),
        ([fail("producer 1", "producer 2"), lambda tracker: tracker.end("producer 2")], 1, REFUSED),
        ([], 1, ""),
        ([fail("consumer")], 0, REFUSED),
        ([], 0, None),
    ],
    ids=[
        "all",
        "a consumer, too",
        "texts that differ in numbers",
        "one has not failed",
        "one succeeded",
        "one has not failed since a success",
        "two ways",
        "the one that is left",
        "none has failed",
        "only consumers",
        "consumers that wait",
    ],
)
def test_a_process_fails_if_each_producer_does_in_one_way(acts: Any, producers: int, found: str | None) -> None:
    tracker = FailureTracker()
    for act in acts:
        act(tracker)
    streak = tracker.streak(producers)
    assert (streak and streak.words) == found
    assert streak is None or bool(streak.since_ns) is bool(found)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day in seconds, in its one element."""
    now = [1_700_000_000.0]
    monkeypatch.setattr("time.time_ns", lambda: round(now[0] * 1e9))
    return now


@pytest.mark.parametrize(
    ("last", "after_seconds", "fails"),
    [
        (lambda _: None, 0.0, True),
        (lambda tracker: tracker.succeed(consumers=False), 0.0, True),
        (lambda tracker: tracker.succeed(consumers=True), 0.0, False),
        (lambda tracker: tracker.idle("b"), 0.0, False),
        (lambda tracker: tracker.fail("b", "WRONGTYPE", producing=False), 0.0, False),
        (lambda tracker: tracker.end("b"), 0.0, False),
        (lambda _: None, 3.5, False),
    ],
    ids=["all", "producers succeed", "a success", "nothing came", "another way", "one has not failed", "they wait now"],
)
def test_consumers_fail_if_all_do_again_and_again(
    clock: list[float], last: Any, after_seconds: float, fails: bool
) -> None:
    tracker = FailureTracker()
    for _ in range(11):
        fail("a", "b", error="NOGROUP")(tracker)
        clock[0] += 0.2
    last(tracker)
    clock[0] += after_seconds
    streak = tracker.consumer_streak(2)
    assert streak is not None
    assert (bool(streak.since_ns), streak.words) == ((True, "NOGROUP") if fails else (False, ""))


def test_an_outage_that_is_over_is_no_failure_of_consumers(clock: list[float]) -> None:
    tracker = FailureTracker()
    fail("a")(tracker)
    clock[0] += 1.9
    fail("a")(tracker)
    clock[0] += 1.0
    streak = tracker.consumer_streak(1)
    assert streak is not None
    assert not streak.since_ns
    assert tracker.consumer_streak(0) is None
