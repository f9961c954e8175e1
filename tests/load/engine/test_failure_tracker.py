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


@pytest.mark.parametrize(
    ("acts", "producers", "found"),
    [
        ([fail("producer 1", "producer 2")], 2, REFUSED),
        ([fail("producer 1", "producer 2", "consumer")], 2, REFUSED),
        ([fail("producer 1"), fail("producer 2", error="OOM at 4 bytes")], 2, REFUSED),
        ([fail("producer 1")], 2, ""),
        ([fail("producer 1", "producer 2"), FailureTracker.succeed], 2, ""),
        ([fail("producer 1", "producer 2"), FailureTracker.succeed, fail("producer 1")], 2, ""),
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
