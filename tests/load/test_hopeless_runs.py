"""A load run in which every operation of all workers fails in the same way ends with that error."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from pytest_redisq.load.locust_process import LoadRun, run, under_way
from pytest_redisq.load.timed_faults import run_struck
from pytest_redisq.servers import Server, start
from tests.load.conftest import when_pushing
from tests.support import local


@pytest.fixture
def own_server() -> Iterator[Server]:
    """It keeps what it has over a restart, may be killed, and has limits of its own."""
    server = start(local(persistence="aof"))
    yield server
    server.stop()


@pytest.mark.parametrize("after", ["0", "100"])
def test_a_put_that_always_raises_ends_the_run(
    server: Server, saboteur: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Long before its time, also where consumers have received messages before, and wait for more."""
    monkeypatch.setenv("AFTER", after)
    report = run(LoadRun(scenario=saboteur("failing_puts"), url=server.url, own_server=True, seconds=600))
    assert (report.exit_code, report.outcome, report.interrupted) == (3, "unknown", True)
    told = report.told["verdict"]
    error = "put raised ValueError: refused b'"
    assert told["reasons"][0].startswith(f"Every operation of all workers has failed in the same way for 2 s: {error}")
    assert told["totals"]["delivered"] == 4 * int(after)
    assert [(each["times"] > 4, each["text"].startswith(error)) for each in told["errors"]] == [(True, True)]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_consumers_that_all_fail_end_the_run_while_producers_succeed(
    server: Server, saboteur: Callable[[str], str], processes: int
) -> None:
    load = LoadRun(
        scenario=saboteur("failing_gets"),
        url=server.url,
        own_server=True,
        seconds=600,
        drain_seconds=1.0,
        rate="100",
        processes=processes,
    )
    report = run(load)
    assert (report.exit_code, report.interrupted) == (3, True), report.output
    told = report.told["verdict"]
    assert told["reasons"][0].startswith("Every operation of all consumers has failed in the same way for 2 s: NOGROUP")
    assert told["totals"]["acknowledged"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("run_options", [{}, {"engine": "locust"}, {"processes": 2}], ids=str)
def test_a_full_server_ends_the_run(own_server: Server, run_options: dict[str, object]) -> None:
    load = LoadRun(**{"scenario": "drain", "url": own_server.url, "seconds": 600, "drain_seconds": 10} | run_options)
    with under_way(load, output=subprocess.PIPE) as running:
        with own_server.client() as client:
            when_pushing(client)
        own_server.config("maxmemory", 1)
        report = running.wait()
    assert (report.exit_code, report.interrupted, report.counts) == (3, True, {})
    assert "command not allowed when used memory" in report.told["verdict"]["reasons"][0]


@pytest.mark.slow
def test_a_fault_that_takes_the_server_away_for_three_seconds_does_not_end_the_run(own_server: Server) -> None:
    """Every connection is refused meanwhile. It was announced, and then the run goes on."""
    load = LoadRun(scenario="blpop-workers", url=own_server.url, seconds=5.0, consumers=20, rate="500")
    report = run_struck(load, own_server, ["kill:server@1s+3s"])
    assert not report.interrupted, report.output
    assert "Every operation" not in report.output
    assert any("Connection refused" in each["text"] for each in report.told["verdict"]["errors"]), report.output
