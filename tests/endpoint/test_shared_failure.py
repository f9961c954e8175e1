"""If every operation of all workers fails in the same way, the run soon ends with that error."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pytest_redisq.endpoint.shared_failure import FailureStreak, shared_failure
from pytest_redisq.errors import TrafficError
from pytest_redisq.runner import run
from pytest_redisq.runner.status_table import StatusTable
from pytest_redisq.servers import Server

SECOND_NS = 10**9
NO_GROUP = FailureStreak(since_ns=SECOND_NS, way=7, words="ResponseError: NOGROUP (jobs.py:6 in get)")
WELL = FailureStreak(since_ns=0, way=7, words="")


class NoGroup:
    """Reads from a group that does not exist."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, body: bytes) -> Any:
        return self.client.xadd("jobs", {"body": body})

    def get(self, timeout_seconds: float) -> Any:  # noqa: ARG002
        return self.client.xreadgroup("group", "one", {"jobs": ">"}, count=1, block=100)


@pytest.mark.parametrize(
    ("streaks", "now", "healed", "found"),
    [
        ([NO_GROUP], 3.0, 0.0, True),
        ([NO_GROUP, NO_GROUP._replace(since_ns=SECOND_NS // 2)], 3.0, 0.0, True),
        ([NO_GROUP], 2.9, 0.0, False),
        ([NO_GROUP, NO_GROUP._replace(since_ns=2 * SECOND_NS)], 3.0, 0.0, False),
        ([NO_GROUP, NO_GROUP._replace(way=8)], 9.0, 0.0, False),
        ([NO_GROUP, WELL], 9.0, 0.0, False),
        ([NO_GROUP], 3.0, 1.5, False),
        ([NO_GROUP], 3.5, 1.5, True),
        ([], 9.0, 0.0, False),
    ],
    ids=[
        "one, for 2 s",
        "two, the later for 2 s",
        "too soon",
        "one of two too soon",
        "two ways",
        "one is well",
        "a fault was healed since",
        "healed long ago",
        "no worker lives",
    ],
)
def test_the_same_failure_of_all_is_found(streaks: Any, now: float, healed: float, found: bool) -> None:
    words = shared_failure(streaks, now_ns=int(now * SECOND_NS), healed_ns=int(healed * SECOND_NS))
    assert bool(words) is found
    assert not found or words.endswith("in the same way for 2 s: ResponseError: NOGROUP (jobs.py:6 in get)")


def test_a_workers_row_keeps_its_failures() -> None:
    """Errors that differ only in numbers are of one way; what does not fail ends the streak."""
    table = StatusTable(None, 2)
    one, two = table.status(0), table.status(1)
    one.fail(ValueError("at byte 17"), "ValueError: at byte 17 (a.py:3 in put)")
    since_ns = one.failures.since_ns
    one.fail(ValueError("at byte 4"), "é" * 200)
    two.fail(ValueError("at byte 9"), "ValueError")
    assert since_ns
    assert one.failures.since_ns == since_ns
    assert one.failures.way == two.failures.way
    assert one.failures.words == "é" * 128
    two.fail(TypeError("at byte 9"), "TypeError")
    assert one.failures.way != two.failures.way
    one.succeed()
    assert one.failures.since_ns == 0


@pytest.mark.parametrize("workers", ["thread", "fork"])
def test_a_run_in_which_all_fails_ends_with_the_error(server: Server, workers: Any) -> None:
    """Long before its deadline; the errors are listed with their count and the user's own line."""
    with pytest.raises(TrafficError) as told:
        run(NoGroup, at=server, messages=5, workers=workers)
    first, *rest = str(told.value).splitlines()
    assert re.match(
        r"Every operation of all workers has failed in the same way for 2 s: ResponseError: NOGROUP .* "
        r"\(test_shared_failure.py:\d+ in get\)",
        first,
    )
    assert re.search(r"\d+ × dequeue: ResponseError: NOGROUP .*\(test_shared_failure.py:\d+ in get\)", "\n".join(rest))
