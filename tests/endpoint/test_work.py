"""Work that fails and work that takes time, in run, explore and load: failed work is never a pass, nor a crash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_redisq.check import Contract, check
from pytest_redisq.errors import DeliveryError, ScheduleError
from pytest_redisq.facade import Redisq
from pytest_redisq.load.locust_process import LoadRun, run
from pytest_redisq.model import Kind, Outcome
from tests.endpoint import orders
from tests.endpoint.test_one_loop import CONTRACT, LOCUSTFILE, broken

#: What becomes of a message whose work fails each time.
BROKEN: Mapping[Any, set[str]] = {
    orders.Orders: {"stuck"},
    orders.AsyncOrders: {"stuck"},
    orders.Pops: {"forgotten"},
    orders.Retries: {"stuck"},
    orders.GivesUp: {"forgotten"},
    orders.GivesBack: set(),
    orders.AsyncGivesBack: set(),
}
QUEUES = pytest.mark.parametrize("queue", BROKEN, ids=lambda queue: queue.__name__)


def work_for(queue: Any) -> Any:
    return orders.fails_async if issubclass(queue, orders.AsyncOrders) else orders.fails


@QUEUES
def test_failed_work_in_a_run(redisq: Redisq, queue: Any) -> None:
    workers: Any = "asyncio" if issubclass(queue, orders.AsyncOrders) else "thread"
    done = redisq.run(queue, consumers=2, messages=20, workers=workers, work=work_for(queue), settle_seconds=0.1)
    verdict = done.verdict(CONTRACT)
    assert broken(verdict.counts) == BROKEN[queue]
    failed = [op for op in done.history if op.kind is Kind.WORK]
    assert {op.outcome for op in failed} == {Outcome.FAIL}
    assert "ValueError: no such order" in failed[0].error


@pytest.mark.parametrize(
    ("queue", "line", "words"),
    [
        (orders.Orders, "1 stuck (in the list orders:held", "its work failed once, and no consumer gets it any more"),
        (
            orders.Retries,
            "1 stuck, dead-lettered (in the list orders:dead",
            "its work failed 3 times, and no consumer",
        ),
        (orders.GivesUp, "1 forgotten, given up (in ", "its work failed 3 times; it was not delivered again"),
    ],
)
def test_the_verdict_says_what_became_of_failed_work(redisq: Redisq, queue: Any, line: str, words: str) -> None:
    done = redisq.run(queue, consumers=2, messages=20, work=orders.fails, settle_seconds=0.1)
    verdict = done.verdict(CONTRACT)
    assert str(verdict).partition("broken: ")[2].startswith(line)
    assert verdict.anomalies[0].words.startswith(words)


@QUEUES
def test_failed_work_in_an_exploration(redisq: Redisq, queue: Any) -> None:
    options: Any = {"contract": CONTRACT, "messages": 3, "schedules": 3, "work": work_for(queue)}
    if not BROKEN[queue]:
        redisq.explore(queue, **options)
        return
    with pytest.raises(ScheduleError) as failed:
        redisq.explore(queue, **options)
    cause = failed.value.__cause__
    assert isinstance(cause, DeliveryError)
    assert cause.history is not None
    assert broken(check(cause.history, Contract.parse(CONTRACT)).counts) == BROKEN[queue]


@pytest.mark.slow
@pytest.mark.parametrize("queue", [orders.Orders, orders.Pops, orders.AsyncGivesBack], ids=lambda queue: queue.__name__)
def test_failed_work_under_load(redisq: Redisq, queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS", queue.__name__)
    monkeypatch.setenv("WORK", work_for(queue).__name__)
    report = run(LoadRun(scenario=str(LOCUSTFILE), url=redisq.url, seconds=0.5, drain_seconds=1, producers=1))
    contract = Contract.parse(CONTRACT)
    assert {kind for kind in report.counts if contract.forbids(kind)} == BROKEN[queue], report.output
    assert (report.outcome == "fail") is bool(BROKEN[queue])


@pytest.mark.parametrize(
    ("queue", "line", "words"),
    [
        (orders.Retries, "1 stuck, dead-lettered", "its work failed 3 times, and no consumer gets it any more"),
        (orders.GivesUp, "1 forgotten, given up", "its work failed 3 times; it was not delivered again"),
    ],
)
def test_a_load_run_says_what_became_of_failed_work(
    redisq: Redisq, queue: Any, line: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERS", queue.__name__)
    monkeypatch.setenv("WORK", "fails")
    report = run(
        LoadRun(scenario=str(LOCUSTFILE), url=redisq.url, seconds=0.5, drain_seconds=1, producers=1, rate="200")
    )
    assert line in report.output
    assert words in report.output
    (anomaly,) = [each for each in report.told["verdict"]["anomalies"] if each["fate"]]
    assert line.endswith(anomaly["fate"])


def test_work_that_outlasts_its_lease_is_done_twice(redisq: Redisq) -> None:
    """The other consumer stays while one is at work; under a lease that is long enough, it gets nothing."""
    options: Any = {"contract": "at-most-once", "messages": 1, "schedules": 20}
    with pytest.raises(ScheduleError, match="1 duplicated") as failed:
        redisq.explore(orders.Leases, work=40, **options)
    assert "1 ack was refused (ack() returned False), and messages were delivered again" in str(failed.value)
    redisq.explore(orders.LongLeases, work=40, **options)


def test_a_consumer_takes_the_time_of_its_work(redisq: Redisq) -> None:
    done = redisq.run(redisq.list("jobs"), messages=4, work=0.1)
    done.verify("at-most-once")
    assert done.ended_ns - done.started_ns > 0.3e9


@pytest.mark.parametrize(
    ("work", "error", "words"),
    [
        ("long", TypeError, "work='long' is to be seconds, or a function of a message"),
        (-1, ValueError, "work=-1 is to be at least 0 seconds"),
        (orders.fails_async, ValueError, "is a coroutine function, and the queue has plain functions"),
    ],
)
def test_what_can_be_no_work_is_refused(redisq: Redisq, work: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        redisq.run(redisq.list("jobs"), work=work)
