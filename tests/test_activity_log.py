"""A run that was never judged warns at the end of its test; pytest's run ends with a summary of what was done."""

from __future__ import annotations

import pytest

TESTS = """
    def test_judged(redisq):
        run = redisq.run(redisq.list("jobs"), messages=20)
        assert "not judged" in str(run)
        run.verify("at-most-once")
        assert "at-most-once holds: 20 messages acknowledged, 20 delivered; no faults" in str(run)

    def test_never_judged(redisq):
        redisq.run(redisq.list("jobs"), messages=30)

    def test_judged_by_the_test_itself(redisq):
        assert len(redisq.run(redisq.list("jobs"), messages=10).history)

    def test_explored(redisq):
        redisq.explore(redisq.list("jobs"), contract="at-most-once", faults="lost-reply", schedules=3)
"""
TESTS_OF_OTHERS = """
    def test_nothing_of_redisq():
        pass

    def test_client_only(redisq_client):
        redisq_client.ping()
"""

pytestmark = pytest.mark.server


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    return pytester


def test_an_unjudged_run_warns_at_its_line(inner: pytest.Pytester) -> None:
    inner.makepyfile(TESTS)
    result = inner.runpytest_subprocess("-p", "no:randomly")
    result.assert_outcomes(passed=4, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*= redisq: summary =*",
            "3 runs of 60 messages: 1 pass, 2 not judged",
            "1 exploration of 3 schedules: 1 pass, faults struck at * of * places",
            "*.?? s * in test_an_unjudged_run_warns_at_its_line.py::test_*",
        ]
    )
    result.stdout.fnmatch_lines(
        [
            "*at_its_line.py:8: RedisqUnjudgedWarning: a run of 30 messages was never judged*",
        ]
    )


@pytest.mark.parametrize("how", ["-Werror::pytest_redisq.RedisqUnjudgedWarning", "--redisq-strict=yes"])
def test_an_unjudged_run_can_be_made_to_fail(inner: pytest.Pytester, how: str) -> None:
    inner.makepyfile(TESTS)
    result = inner.runpytest_subprocess(how, "-k", "never_judged or by_the_test_itself")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*a run of 30 messages was never judged*"])


def test_a_failed_test_is_not_warned_as_well(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        """
        def test_it(redisq):
            redisq.run(redisq.list("jobs"), messages=5)
            assert False
        """
    )
    inner.runpytest_subprocess().assert_outcomes(failed=1, warnings=0)


@pytest.mark.slow
def test_the_summary_adds_up_the_workers_of_xdist(inner: pytest.Pytester) -> None:
    """Under -q it is one line."""
    inner.makepyfile(TESTS)
    result = inner.runpytest_subprocess("-q", "-n", "2")
    result.stdout.fnmatch_lines(
        ["redisq: 3 runs of 60 messages: 1 pass, 2 not judged; 1 exploration of 3 schedules: 1 pass, faults struck*"]
    )


@pytest.mark.slow
def test_a_load_run_whose_verdict_is_not_looked_at_warns(inner: pytest.Pytester) -> None:
    """Its figures say nothing about the contract."""
    inner.makepyfile(
        """
        def test_it(redisq):
            report = redisq.load("blpop-workers", seconds=0.5, consumers=2)
            assert report.figures["attempted"]

        def test_judged(redisq):
            assert redisq.load("blpop-workers", seconds=0.5, consumers=2).exit_code == 0
        """
    )
    result = inner.runpytest_subprocess("-q", "-p", "no:randomly")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*RedisqUnjudgedWarning: a load run of * messages was never judged*call .verify()*"])
    result.stdout.fnmatch_lines(["redisq: 2 runs of * messages: 2 pass"])


def test_without_runs_there_is_no_summary(inner: pytest.Pytester) -> None:
    inner.makepyfile(TESTS_OF_OTHERS)
    result = inner.runpytest_subprocess()
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*redisq: summary*")


def test_a_dedicated_server_is_in_the_summary(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        """
        import pytest

        @pytest.mark.redisq_dedicated
        def test_it(redisq):
            redisq.run(redisq.list("jobs"), messages=20).verify("at-most-once")
        """
    )
    inner.runpytest_subprocess("-q").stdout.fnmatch_lines(["redisq: 1 run of 20 messages: 1 pass"])


def test_the_one_line_summary_begins_with_the_point(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        test_it="""
        def test_it(redisq):
            redisq.run((lambda c, b: None, lambda c, t: c.lpop("jobs")), messages=7).verify("at-least-once")
        """
    )
    result = inner.runpytest_subprocess("-rf")
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_it - DeliveryError: at-least-once broken: 7 lost*"])


def test_a_crash_shows_the_users_own_line_once_and_none_of_ours(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        test_it="""
        class Orders:
            def __init__(self, client):
                self.client = client
            def put(self, body):
                self.clent.rpush("orders", body)
            def get(self, timeout_seconds):
                return None

        def test_run(redisq):
            redisq.run(Orders, producers=3, messages=9)

        def test_explore(redisq):
            redisq.explore(Orders, contract="at-least-once", schedules=2)

        class Untimed(Orders):
            def get(self):
                return None

        def test_signature(redisq):
            redisq.run(Untimed)
        """
    )
    result = inner.runpytest_subprocess("-rf", "-p", "no:randomly")
    crash = "AttributeError: 'Orders' object has no attribute 'clent'"
    result.stdout.fnmatch_lines(
        [
            f"E*TrafficError: {crash} (test_it.py:5 in put) [[]producer-*",
            "E*test_it.py*line 5, in put",
            'E*self.clent.rpush("orders", body)',
            "E*? of 4 workers failed.",
            "E*? × enqueue: AttributeError*",
            f"E*ScheduleError: {crash}; schedule 1 fails; *",
            "FAILED test_it.py::test_run - TrafficError: AttributeError: *",
            "FAILED test_it.py::test_explore - ScheduleError: AttributeError: *",
            "FAILED test_it.py::test_signature - QueueMisuseError: Untimed.get() takes no *",
        ]
    )
    for ours in ("runner.py", "worker_pool.py", "forms.py", "user_code.py", "explorer.py"):
        assert ours not in result.stdout.str()
