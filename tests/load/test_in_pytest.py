"""A short load run as a test: `redisq.load`."""

from __future__ import annotations

import pytest

from tests.support import local_kind

_TESTS = """
import pytest

@pytest.mark.redisq_dedicated(persistence="aof")
def test_it_survives(redisq):
    report = redisq.load(
        "blpop-workers",
        seconds=3,
        consumers=20,
        faults=["pause:server@0.5s+0.5s"],
        fail_if=["lost>0", "RPUSH.max<400ms"],
    )
    report.verify()
    assert [line.partition(": ")[2] for line in report.told["faults"]] == [
        "the server was paused", "the server was resumed"
    ]
    assert redisq.client.keys() == []

def test_it_is_too_slow(redisq):
    redisq.load("blpop-workers", seconds=1, fail_if=["p99>1us"]).verify()

@pytest.mark.redisq_dedicated
def test_it_is_on_a_server_that_freezes_for_good(redisq):
    redisq.load("drain", seconds=2, faults=["pause:server@0.5s+600s"]).verify()

def test_it_is_no_fault(redisq):
    redisq.load("blpop-workers", faults=["boom@1s"])
"""


@pytest.mark.slow
def test_a_test_passes_or_fails_by_the_verdict_and_the_thresholds(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(_TESTS)
    result = pytester.runpytest_subprocess("--redisq-server", local_kind(), timeout=110)
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(["*DeliveryError: p99>1us*", "*load run ended with exit code 2:*", "*MISSED p99>1us*"])
    result.stdout.fnmatch_lines(["*ended with exit code 3:*", "*the server did not answer at the end of the run*"])
    result.stdout.fnmatch_lines(["*no such fault: 'boom'.*The names are *"])
