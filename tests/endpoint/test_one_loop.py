"""The very same queue means the same in run, explore and load: it passes, or fails for the same reasons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_redisq.check import Contract, Verdict, check
from pytest_redisq.errors import DeliveryError, ScheduleError
from pytest_redisq.explore import Exploration
from pytest_redisq.facade import Redisq
from pytest_redisq.load.locust_process import LoadRun, run
from pytest_redisq.runner import Command
from tests.endpoint import orders

LOCUSTFILE = Path(__file__).parents[1] / "load" / "locustfiles" / "orders.py"
CONTRACT = "at-least-once"
#: What each queue does against the contract, by the checker's names.
BROKEN: Mapping[Any, set[str]] = {
    orders.Orders: set(),
    orders.AsyncOrders: set(),
    orders.Misplaces: {"false-ack"},
    orders.Drops: {"lost"},
    orders.AsyncDrops: {"lost"},
}
QUEUES = pytest.mark.parametrize("queue", BROKEN, ids=lambda queue: queue.__name__)


def broken(counts: Mapping[Any, int]) -> set[str]:
    contract = Contract.parse(CONTRACT)
    return {str(kind) for kind, times in counts.items() if times and contract.forbids(kind)}


@QUEUES
def test_in_a_run(redisq: Redisq, queue: Any) -> None:
    workers: Any = "asyncio" if issubclass(queue, orders.AsyncOrders) else "thread"
    verdict: Verdict = redisq.run(queue, messages=60, workers=workers).verdict(CONTRACT)
    assert broken(verdict.counts) == BROKEN[queue]
    assert verdict.outcome == ("fail" if BROKEN[queue] else "pass")


@QUEUES
def test_in_an_exploration(redisq: Redisq, queue: Any) -> None:
    explored = lambda: redisq.explore(queue, contract=CONTRACT, messages=4, schedules=3)  # noqa: E731
    if not BROKEN[queue]:
        assert isinstance(explored(), Exploration)
        return
    with pytest.raises(ScheduleError) as failed:
        explored()
    cause = failed.value.__cause__
    assert isinstance(cause, DeliveryError)
    assert cause.history is not None
    assert broken(check(cause.history, Contract.parse(CONTRACT)).counts) == BROKEN[queue]


@pytest.mark.slow
@QUEUES
def test_under_load(redisq: Redisq, queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS", queue.__name__)
    report = run(LoadRun(scenario=str(LOCUSTFILE), url=redisq.url, seconds=0.5, drain_seconds=1, producers=1))
    contract = Contract.parse(CONTRACT)
    assert {kind for kind in report.counts if contract.forbids(kind)} == BROKEN[queue], report.output
    assert report.outcome == ("fail" if BROKEN[queue] else "pass")


def test_a_form_that_a_driver_cannot_do_is_refused_in_words(redisq: Redisq) -> None:
    pair = (Command(["produce"]), Command(["consume"]))
    with pytest.raises(TypeError, match=r"is an external command: it cannot be explored .* with world\.process"):
        redisq.explore(pair, contract=CONTRACT)
    with pytest.raises(TypeError, match=r"is an object that all workers use: it cannot be explored: each actor needs"):
        redisq.explore(orders.Orders(redisq.client), contract=CONTRACT)
