"""The kit as its users meet it: README's example, the table, and what is said of arguments that make no sense."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pytest_redisq.check import Contract
from pytest_redisq.errors import DeliveryError
from pytest_redisq.facade import Redisq
from pytest_redisq.properties import check_conformance, conformance
from pytest_redisq.queues import BlockingList, Stream
from pytest_redisq.report.conformance_table import conformance_table

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"<!-- kit: test_jobs.py -->\n```python\n(.*?)```", README, re.DOTALL)
(OUTPUT,) = re.findall(r"<!-- kit output: test_jobs.py -->\n```\n(.*?)```", README, re.DOTALL)


def run(pytester: pytest.Pytester, factory: str, *args: str) -> pytest.RunResult:
    pytester.makepyfile(test_jobs=factory)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    return pytester.runpytest_subprocess("-q", *args)


@pytest.mark.slow
@pytest.mark.timeout(300)  # all of the kit, in a run of its own
def test_the_example_of_readme_prints_what_readme_shows(pytester: pytest.Pytester) -> None:
    """Also under xdist, where the table is made by a process that has run no test."""
    result = run(pytester, EXAMPLE, "-n", "2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert set(shapes(OUTPUT)) <= set(shapes(result.stdout.str()))
    result.stdout.fnmatch_lines(["*DeliveryError: at-least-once broken: 1 indeterminate (in no key)"])


def shapes(text: str) -> list[str]:
    """Without counts, and without what is a matter of luck: whether a connection that is cut had a job on it."""
    lines = [line for line in text.splitlines() if "drop:connections" not in line]
    return [re.sub(r" +\d+$| \d of", " #", line) for line in lines]


def rows(*outcomes: str) -> Any:
    laws = ["bodies", "stopping", "sharing"]
    row = {"queue": "Jobs", "contract": "at-most-once", "workers": "thread", "fault": ""}
    return [
        (row | {"property": kit_property, "at": at, "count": 0 if kit_property == "stopping" else 1_300}, outcome)
        for at, (kit_property, outcome) in enumerate(zip(laws, outcomes, strict=True))
    ]


def test_the_table_counts_what_is_broken_and_keeps_the_order_of_the_laws() -> None:
    assert list(conformance_table(reversed(rows("passed", "passed", "failed")))) == [
        'Jobs, "at-most-once": 1 of 3 properties broken',
        "  bodies        thread                             pass    1,300",
        "  stopping      thread                             -",
        "  sharing       thread                             FAIL    1,300",
    ]
    assert next(conformance_table(rows("passed", "passed", "passed"))) == 'Jobs, "at-most-once": all 3 hold'


def cases(**options: Any) -> list[str]:
    made: Any = conformance(BlockingList("jobs"), **options)
    (mark,) = made.test_property.pytestmark
    return [str(case) for case in mark.args[1]]


def test_a_contract_implies_its_laws_and_no_others() -> None:
    assert "order-thread" not in cases(contract="at-most-once")
    assert "order-thread" in cases(contract=Contract.parse("at-most-once, fifo"))
    assert "stateful-thread" not in cases(contract="fan-out")
    assert "over-night-thread" in cases(contract="fan-out")
    assert "over-night-thread" not in cases(contract="at-most-once")
    assert not [case for case in cases(contract="fan-out") if "kill" in case]


def test_each_law_is_tried_by_the_workers_that_there_are() -> None:
    by_tasks = cases(contract="at-most-once", workers=("asyncio",))
    assert {"bodies-asyncio", "stateful-asyncio", "sharing-asyncio-drop:connections", "explored-asyncio-kill"} <= set(
        by_tasks
    )
    assert not [case for case in by_tasks if "thread" in case or "schedule" in case]
    by_both = cases(contract="at-least-once", workers=("process", "asyncio"), faults=["drop:connections"])
    assert {"bodies-thread", "bodies-asyncio", "sharing-process", "sharing-process-drop:connections"} <= set(by_both)
    by_schedule = [
        f"explored-{workers}{fault}" for workers in ("schedule", "asyncio") for fault in ("", "-drop:connections")
    ]
    assert [case for case in by_both if "explored" in case] == by_schedule


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"contract": "at-least-twice"}, "Did you mean 'at-least-once'?"),
        ({"contract": "fan-out", "workers": ("threads",)}, "workers='threads': some of thread, asyncio"),
        (
            {"contract": "fan-out", "faults": ("kill",)},
            "conformance cannot do kill. conformance can do kill:consumer, ",
        ),
        (
            {"contract": "fan-out", "leave_out": {"stoping": "no stop"}},
            "no property 'stoping'. Did you mean 'stopping'?",
        ),
        ({"contract": "fan-out", "leave_out": {"stopping": " "}}, "leave_out['stopping']=' ': a reason"),
        ({"contract": "fan-out", "bodies": "utf-8"}, "bodies='utf-8': one of bytes, text, json"),
    ],
)
def test_what_makes_no_sense_is_said_when_tests_are_collected(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        conformance(Stream("s"), **options)


class LastInFirstOut:
    """Right, but for the order."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.lpush("jobs", body)

    def get(self, timeout_seconds: float) -> Any:
        popped = self.client.blpop("jobs", timeout_seconds) if timeout_seconds else None
        return popped[1] if popped else self.client.lpop("jobs")


@pytest.mark.server
def test_within_one_test_it_gives_the_table_or_fails_with_it(redisq: Redisq) -> None:
    """By the fixture, too."""
    few: dict[str, Any] = {"workers": ("thread",), "faults": (), "messages": 60, "schedules": 0}
    table = redisq.conformance(LastInFirstOut, contract="at-most-once", **few)
    assert table.startswith('LastInFirstOut, "at-most-once": all 8 hold\n  bodies ')
    with pytest.raises(DeliveryError, match='"at-most-once, fifo": 1 of 9 properties broken') as caught:
        check_conformance(LastInFirstOut, redisq, contract="at-most-once, fifo", **few)
    assert "order-thread: one consumer gets each producer's messages in order\n" in str(caught.value)


def test_it_is_a_base_class_too(pytester: pytest.Pytester) -> None:
    """With marks and fixtures of the user's own."""
    pytester.makepyfile(
        test_jobs="""
        import pytest
        from pytest_redisq import conformance
        from pytest_redisq.queues import BlockingList

        @pytest.mark.skip(reason="another day")
        class TestJobs(conformance(BlockingList("jobs"), contract="at-most-once", workers=("thread",), faults=())):
            pass
        """
    )
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.runpytest_subprocess("-q").assert_outcomes(skipped=9)


LEFT_OUT = """
import pytest
from pytest_redisq import conformance


class Empty:
    def __init__(self, client): pass
    def put(self, body): pass
    def get(self, timeout_seconds): return None
    def stop(self): raise RuntimeError("no stop here")


TestEmpty = conformance(
    Empty,
    contract="at-most-once",
    workers=("thread",),
    faults=(),
    schedules=0,
    leave_out=dict.fromkeys(["bodies", "backlog", "waiting", "stateful", "sharing", "prompt"], "of another kind"),
)
"""


def test_tests_of_the_kit_are_located_in_the_users_file_and_line(pytester: pytest.Pytester) -> None:
    """Reports, editors and CI annotations led into site-packages."""
    result = run(pytester, LEFT_OUT, "-rA", "--color=no", "--junitxml=told.xml", "-o", "junit_family=xunit1")
    result.assert_outcomes(failed=2, skipped=6)
    told = result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            ">   TestEmpty = conformance(",
            "E   AssertionError: 3 equal bodies went in, and 0 came out*",
            "test_jobs.py:12: AssertionError",
            "test_jobs.py:9: RuntimeError",
            'Empty, "at-most-once": 2 of 2 properties broken, 6 left out',
            "  backlog       left out: of another kind",
            "SKIPPED *6* test_jobs.py:12: of another kind",
        ]
    )
    assert "kit_properties.py" not in told.partition("test_jobs.py:12: AssertionError")[0].partition("equal-bodies")[2]
    assert not any(ours in told for ours in ("blocking_endpoint.py", "manual_worker.py", "forms.py"))
    junit = (pytester.path / "told.xml").read_text()
    assert junit.count('file="test_jobs.py" line="11"') == 8  # counted from 0
