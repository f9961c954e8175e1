"""Deaf consumers are found by a run, on a real server; consumers that recover, or only have no luck, pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_redisq.check import AnomalyKind, Contract, check
from pytest_redisq.errors import DeliveryError
from pytest_redisq.history import read_history, write_history
from pytest_redisq.runner import Rate, Run, run
from pytest_redisq.servers import Server, start
from tests.runner import deaf_queues as queues
from tests.support import local

LIVE = "at-least-once, live=1s"


@pytest.fixture
def server() -> Iterator[Server]:
    """One that may be restarted: it has what was written before."""
    server = start(local(persistence="aof"))
    yield server
    server.stop()


def run_with_faults(queue: Any, server: Server, faults: str = "restart:server@30", **options: Any) -> Run:
    """The consumers mostly wait, so that they notice the loss of their connections."""
    options = {"consumers": 2, "messages": 60, "pace": Rate(150), "live_seconds": 1.0, **options}
    return run(queue, at=server, faults=faults, **options)


def assert_live(done: Run) -> None:
    """These queues may lose what is under way when the server restarts: only liveness is asserted."""
    verdict = done.verdict("at-least-once, live")
    assert AnomalyKind.DEAF not in verdict.not_judged
    assert verdict.counts[AnomalyKind.DEAF] == 0


@pytest.mark.parametrize(
    ("queue", "faults", "workers"),
    [
        (queues.Sleeps, "restart:server@30", "thread"),
        (queues.Sleeps, "drop:connections@30", "fork"),
        (queues.AsksElsewhere, "restart:server@30", "thread"),
        (queues.AsksElsewhere, "drop:connections@30", "fork"),
        (queues.SwallowsErrors, "drop:connections@30", "thread"),
    ],
)
def test_a_deaf_consumer_is_named(server: Server, queue: Any, faults: str, workers: Any, tmp_path: Path) -> None:
    done = run_with_faults(queue, server, faults, workers=workers)
    verdict = done.verdict(LIVE)
    assert (verdict.outcome, verdict.counts[AnomalyKind.DEAF]) == ("fail", 1), verdict
    with pytest.raises(DeliveryError, match="consumer-0: took nothing after"):
        done.verify(LIVE)
    write_history(done.history, tmp_path / "run.jsonl")
    assert check(read_history(tmp_path / "run.jsonl"), Contract.parse(LIVE)).anomalies == verdict.anomalies


@pytest.mark.parametrize("workers", ["thread", "fork"])
@pytest.mark.parametrize("queue", [queues.Reconnecting, queues.Group])
@pytest.mark.parametrize("faults", ["restart:server@30", "drop:connections@55", "pause:server@30+0.3s"])
def test_consumers_that_recover_are_live(server: Server, queue: Any, faults: str, workers: Any) -> None:
    assert_live(run_with_faults(queue, server, faults, workers=workers, live_seconds=10.0))


def test_consumers_that_outlive_a_killed_one_are_live(server: Server) -> None:
    assert_live(run_with_faults(queues.Reconnecting, server, "kill:consumer@30", consumers=3, live_seconds=10.0))


def test_a_healthy_consumer_without_luck_is_not_deaf(server: Server) -> None:
    """The other consumer takes all messages, until it must hold back."""
    done = run_with_faults(queues.Unlucky, server, "drop:connections@59", live_seconds=10.0)
    assert_live(done)
    assert any("was added after a fault" in note for note in done.history.notes)


def test_without_an_offer_it_is_not_known_who_is_deaf(server: Server) -> None:
    verdict = run_with_faults(queues.Sleeps, server, live_seconds=0).verdict(LIVE)
    assert verdict.outcome == "unknown"
    assert AnomalyKind.DEAF in verdict.not_judged


def test_a_run_in_which_all_consumers_are_deaf_ends(server: Server) -> None:
    """A new consumer takes what is left, so that it is not called lost."""
    done = run_with_faults(queues.Sleeps, server, consumers=1)
    verdict = done.verdict(LIVE)
    assert verdict.counts[AnomalyKind.DEAF] == 1
    assert verdict.totals.remaining == 0
    assert verdict.totals.missing <= 1  # under way when the server restarted


def test_a_consumer_at_work_is_not_taken_for_a_deaf_one(server: Server) -> None:
    """It handles its message for longer than it may take to ask again; it is neither ended nor called deaf."""
    options: Any = {"consumers": 1, "messages": 4, "pace": None, "live_seconds": 0.2, "work": 0.4}
    done = run_with_faults(queues.Reconnecting, server, "drop:connections@2", **options)
    verdict = done.verdict("at-least-once, live=0.2s")
    assert verdict.counts[AnomalyKind.DEAF] == 0
    assert verdict.totals.missing == 0
