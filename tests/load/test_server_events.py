"""Each scenario against each thing that can happen to its server: there is a verdict, and its exit status."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
import redis

from pytest_redisq.load.locust_process import LoadError, LoadReport, LoadRun, run, under_way
from pytest_redisq.load.results.exit_status import EXIT_BROKEN, EXIT_NOT_RUN, EXIT_PASS, EXIT_UNKNOWN
from pytest_redisq.servers import Server, start
from tests.support import eventually, local

SCENARIOS = (
    "blpop-workers",
    "drain",
    "drain-to-file",
    "lrange-payload",
    "mixed",
    "own-queue",
    "xadd-burst",
    "xadd-fanout",
    "xadd-group",
)
#: What scenarios send their messages by, or read them.
COMMANDS = ("rpush", "xadd", "lrange")


def control(server: Server, act: Callable[[redis.Redis], object]) -> None:
    with server.client() as client:
        act(client)


EVENTS: dict[str, Callable[[Server], None]] = {
    "becomes a replica": lambda server: control(server, lambda client: client.replicaof("127.0.0.1", 1)),
    "has too few replicas": lambda server: server.config("min-replicas-to-write", 1),
    "is flushed": lambda server: control(server, lambda client: client.flushall()),
    "is full": lambda server: server.config("maxmemory", 1),
    "is killed": lambda server: server.kill(),
    "is restarted": lambda server: server.restart(),
    "freezes": lambda server: server.pause(),
}


@pytest.fixture
def own_server() -> Iterator[Server]:
    """It keeps nothing over a restart."""
    server = start(local())
    yield server
    server.revive()
    server.stop()


def attacked(server: Server, event: str, **run_options: object) -> LoadReport:
    """The report of a run during which `event` happens, after the first messages."""
    load = LoadRun(**{"url": server.url, "seconds": 1.5, "drain_seconds": 1.0} | run_options)
    with under_way(load, output=subprocess.PIPE) as running:
        with server.client() as client:
            eventually(lambda: calls(client) > 50 or running.process.poll() is not None, 60)
        EVENTS[event](server)
        report = running.wait()
    assert "Traceback" not in report.output
    assert (report.exit_code == EXIT_BROKEN) == (report.outcome == "fail"), report.output
    return report


def calls(client: redis.Redis) -> int:
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in COMMANDS)


def check(scenario: str, event: str, report: LoadReport) -> None:
    """The anomalies that the report of `scenario` must have, and those that it may have."""
    reasons, notes = "\n".join(report.told["verdict"]["reasons"]), "\n".join(report.told["notes"])
    match event:
        case "becomes a replica" | "has too few replicas":
            assert report.exit_code == EXIT_UNKNOWN
            assert "the server refuses to write" in reasons
        case "is full":
            assert report.exit_code == EXIT_PASS, report.output
            assert ("messages were refused by the server" in notes) == (scenario != "lrange-payload")
        case "is killed" | "freezes":
            assert report.exit_code == EXIT_UNKNOWN
            assert "the server did not answer" in reasons
        case "is flushed":
            # Whether anything was inside at that moment is chance, except for what is read over and over.
            assert "the server was flushed" in notes
            assert scenario != "lrange-payload" or report.exit_code == EXIT_BROKEN
        case "is restarted":
            assert "the server was restarted" in notes
        case _:
            raise AssertionError(event)
    if report.exit_code == EXIT_PASS:
        assert report.told["verdict"]["totals"]["acknowledged"] > 0
        assert not reasons


@pytest.mark.nightly
@pytest.mark.parametrize(("scenario", "event"), [*product(SCENARIOS, EVENTS)])
def test_each_run_ends_with_a_verdict_whatever_happens(own_server: Server, scenario: str, event: str) -> None:
    check(scenario, event, attacked(own_server, event, scenario=scenario))


@pytest.mark.parametrize(("scenario", "event"), [("blpop-workers", "becomes a replica"), ("xadd-group", "is full")])
def test_a_server_that_refuses_to_write_does_not_cost_the_verdict(
    own_server: Server, scenario: str, event: str
) -> None:
    check(scenario, event, attacked(own_server, event, scenario=scenario))


@pytest.mark.parametrize("scenario", ["drain", pytest.param("xadd-group", marks=pytest.mark.nightly)])
def test_what_a_flush_has_removed_is_lost(own_server: Server, scenario: str) -> None:
    """No consumer has taken it, so that all that was acknowledged by then is gone."""
    report = attacked(own_server, "is flushed", scenario=scenario, consumers=0)
    assert report.exit_code == EXIT_BROKEN
    assert report.counts["lost"] > 50
    assert "the server was flushed (FLUSHALL or FLUSHDB) during the run" in report.told["notes"]


def test_a_server_that_was_full_from_the_beginning_is_no_pass(own_server: Server) -> None:
    own_server.config("maxmemory", 1)
    report = run(LoadRun(scenario="drain", url=own_server.url, own_server=True, seconds=1.0))
    assert (report.exit_code, report.outcome) == (EXIT_UNKNOWN, "unknown")
    assert report.told["verdict"]["totals"]["failed"] > 0
    with pytest.raises(LoadError, match="is out of memory: command not allowed") as error:
        run(LoadRun(scenario="drain", url=own_server.url, seconds=1.0))
    assert error.value.exit_code == EXIT_NOT_RUN


@pytest.mark.nightly
@pytest.mark.parametrize("engine", ["epoll", "locust"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_server_that_freezes_is_given_up_by_each_engine(own_server: Server, engine: str, processes: int) -> None:
    report = attacked(own_server, "freezes", scenario="xadd-group", engine=engine, processes=processes)
    check("xadd-group", "freezes", report)


@pytest.mark.nightly
def test_a_queue_that_cannot_say_what_is_left_in_it_is_not_judged(
    own_server: Server, saboteur: Callable[[str], str]
) -> None:
    report = run(LoadRun(scenario=saboteur("blind"), url=own_server.url, own_server=True, seconds=1.0))
    assert (report.exit_code, report.outcome) == (EXIT_UNKNOWN, "unknown")
    assert "what is left in the queue could not be read: no such context" in report.told["verdict"]["reasons"]
    assert "Traceback" not in report.output


@pytest.mark.nightly
def test_a_server_that_froze_and_goes_on_loses_nothing(own_server: Server) -> None:
    load = LoadRun(scenario="drain", url=own_server.url, seconds=600.0)
    with under_way(load, output=subprocess.PIPE) as running:
        told = running.process.stdout
        assert told is not None
        assert any("messages/s" in line for line in told)
        own_server.pause()
        assert any("depth unknown (no answer within" in line for line in told)
        own_server.resume()
        assert any("depth unknown" not in line for line in told)
        running.stop()
        report = running.wait()
    assert (report.exit_code, report.interrupted, report.counts) == (EXIT_UNKNOWN, True, {})


@pytest.mark.nightly
def test_files_that_cannot_be_written_any_more_cost_a_pass_and_not_the_verdict(
    own_server: Server, tmp_path: Path
) -> None:
    """A limit on the size of files stands for a disk that gets full during the run: the HTML report is larger."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("NOT TESTED: this system cannot limit another process' files")
    words = ["--html", str(tmp_path / "told.html"), "--csv", str(tmp_path / "told")]
    load = LoadRun(scenario="drain", url=own_server.url, seconds=2.0, locust=words)
    with under_way(load, output=subprocess.PIPE) as running:
        with own_server.client() as client:
            eventually(lambda: calls(client) > 50, 60)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
        report = running.wait()
    assert (report.exit_code, report.outcome) == (EXIT_NOT_RUN, "pass")
    assert report.told["notes"][-1] == f"--html: {tmp_path / 'told.html'} could not be written: File too large"
    assert report.told["notes"][-1] in report.output
    assert "Traceback" not in report.output
