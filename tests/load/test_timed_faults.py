"""The load harness survives faults during a run, and judges it correctly."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from pytest_redisq.errors import DeliveryError
from pytest_redisq.faults import Fault
from pytest_redisq.load.locust_process import LoadReport, LoadRun, under_way
from pytest_redisq.load.timed_faults import FaultSchedule, run_struck
from pytest_redisq.servers import Server, start
from tests.load.conftest import when_pushing
from tests.support import local

pytestmark = pytest.mark.slow

Play = Callable[..., LoadReport]


@pytest.fixture
def own_server() -> Iterator[Server]:
    """It keeps what it has over a restart, and may be killed."""
    server = start(local(persistence="aof"))
    yield server
    server.stop()


def struck(server: Server, fault: str, **run_options: object) -> tuple[LoadReport, list[str]]:
    """A run that is struck by `fault` once it sends messages."""
    load = LoadRun(
        **{"scenario": "blpop_workers", "url": server.url, "seconds": 5.0, "drain_seconds": 10} | run_options
    )
    with under_way(load, output=subprocess.PIPE) as running:
        with server.client() as client:
            when_pushing(client)
        schedule = FaultSchedule([Fault.parse(fault)], server, running.process.pid)
        with schedule.at_work():
            report = running.wait()
    return report, schedule.struck


def test_a_killed_worker_makes_the_run_unknown(server: Server) -> None:
    report, notes = struck(server, "kill:process@0s", processes=3)
    assert "was killed" in notes[0]
    assert report.exit_code == 3
    assert report.counts == {}
    assert any("are missing" in reason for reason in report.told["verdict"]["reasons"])


def test_a_worker_that_dies_before_it_has_begun_is_not_waited_for(play: Play, saboteur: Callable[[str], str]) -> None:
    report = play(saboteur("dies_young"), processes=2)
    assert report.exit_code == 3
    assert any("are missing" in reason for reason in report.told["verdict"]["reasons"])
    assert 1 <= report.told["seconds"] < 30  # and not the minute after which Locust would have ended it


@pytest.mark.parametrize("engine", ["epoll", "locust"])
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_consumers_of_a_group_lose_nothing(server: Server, engine: str, processes: int) -> None:
    load = LoadRun(scenario="xadd-group", url=server.url, seconds=3.0, engine=engine, processes=processes)
    report = run_struck(load, server, ["kill:consumers@0s", "kill:consumers@1s"])
    assert (report.exit_code, report.outcome) == (0, "pass")
    assert report.figures["errors"] >= 10


@pytest.mark.parametrize("engine", ["epoll", "locust"])
def test_dropped_connections_are_made_again_and_what_they_carried_is_not_called_lost(
    server: Server, engine: str
) -> None:
    """BLPOP alone loses what was on its way to a connection that is cut: the harness can tell that from a loss."""
    report, notes = struck(server, "drop:connections@0s", engine=engine)
    assert "connections were closed" in notes[0]
    assert "lost" not in report.counts
    assert report.figures["errors"] > 0
    assert report.told["verdict"]["totals"]["delivered"] > 100


@pytest.mark.parametrize("engine", ["epoll", "locust"])
def test_a_pause_of_the_server_harms_nobody(own_server: Server, engine: str) -> None:
    report, notes = struck(own_server, "pause:server@0s+1s", engine=engine)
    assert len(notes) == 2
    assert (report.exit_code, report.counts) == (0, {})
    assert report.figures["RPUSH.max"] >= 900_000


def test_a_pause_shows_in_the_latency_from_the_intended_start(own_server: Server) -> None:
    """Locust's own way to measure waits with the server, and calls the run fast."""
    report, _ = struck(own_server, "pause:server@0s+2s", rate="500", seconds=5.0)
    assert report.exit_code == 0
    assert report.figures["RPUSH.p90"] > 10 * report.figures["service.p90"]


def test_a_restart_is_survived(own_server: Server) -> None:
    report, _ = struck(own_server, "restart:server@0s")
    assert report.told["verdict"]["totals"]["delivered"] > 100
    assert report.figures["errors"] > 0
    assert "corrupted" not in report.counts


def test_a_server_that_is_gone_is_told_while_the_run_goes_on_and_at_its_end(own_server: Server) -> None:
    load = LoadRun(scenario="blpop_workers", url=own_server.url, seconds=600, drain_seconds=1)
    with under_way(load, output=subprocess.PIPE) as running:
        with own_server.client() as client:
            when_pushing(client)
        own_server.kill()
        assert running.process.stdout is not None
        assert any("depth unknown (" in line for line in running.process.stdout)
        running.stop()
        report = running.wait()
    assert (report.exit_code, report.outcome) == (3, "unknown")
    assert any("the server did not answer" in reason for reason in report.told["verdict"]["reasons"])
    assert "Traceback" not in report.output


@pytest.mark.parametrize(
    ("scenario", "fault", "lesson"),
    [
        ("drain", "kill:process@0s", "kill:process@0s failed: the run has only one process"),
        ("drain", "drop:connections@60s", "drop:connections@60s never struck: the run had ended"),
        ("own-queue", "kill:consumers@0s", "kill:consumers@0s failed: the run has no named connection"),
    ],
)
def test_a_run_that_a_fault_has_missed_is_not_judged(server: Server, scenario: str, fault: str, lesson: str) -> None:
    report = run_struck(LoadRun(scenario=scenario, url=server.url, seconds=1.0), server, [fault])
    assert (report.exit_code, report.outcome) == (3, "unknown")
    assert report.told["verdict"]["line"].startswith(f"{report.told['verdict']['contract']} unknown: {fault} ")
    assert report.told["verdict"]["faults"][0]["struck"] == 0
    with pytest.raises(DeliveryError, match=f"exit code 3:(.|\n)*fault: .* s: {lesson}"):
        report.verify()
