"""Broken queues under load are caught by the verdict; their right twins pass in test_runner.py."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from pytest_redisq.faults import Fault
from pytest_redisq.load.locust_process import LoadReport, LoadRun, under_way
from pytest_redisq.load.timed_faults import FaultSchedule, run_struck
from pytest_redisq.servers import Server
from tests.load.conftest import when_pushing

Play = Callable[..., LoadReport]
Saboteur = Callable[[str], str]


@pytest.mark.slow
def test_locusts_plain_stop_loses_messages(play: Play, saboteur: Saboteur) -> None:
    """The same with our ending passes: `test_every_scenario_passes_in_either_engine[blpop_workers-users]`.

    Not with every stop: which worker is killed between a reply's arrival and its reading is chance.
    """
    stops = (play(saboteur("plain_stop"), locust=["--run-time", "2s"]) for _ in range(20))
    assert any(report.exit_code == 1 and report.counts["lost"] > 0 for report in stops)


def test_blpop_workers_that_are_killed_break_the_contract(server: Server) -> None:
    """The right twin is a group: `test_killed_consumers_of_a_group_lose_nothing`."""
    load = LoadRun(scenario="blpop-workers", url=server.url, seconds=1.0, consumers=10, drain_seconds=10)
    report = run_struck(load, server, ["kill:consumers@0s"])
    assert (report.exit_code, set(report.counts)) == (1, {"indeterminate"})
    assert report.counts["indeterminate"] <= 10
    assert "each consumer was killed with a reply unread" in report.told["faults"][0]


def test_the_dollar_loop_misses_entries(play: Play, saboteur: Saboteur) -> None:
    report = play(saboteur("dollar"))
    assert report.exit_code == 1
    assert report.counts["lost"] > 0


def test_two_drainers_that_look_and_then_trim_lose_and_double(play: Play, saboteur: Saboteur) -> None:
    report = play(saboteur("two_drainers"))
    assert report.exit_code == 1
    assert report.counts["lost"] > 0
    assert report.counts["duplicated"] > 0


@pytest.mark.slow
def test_a_garbled_body_is_corrupted_and_its_message_lost(play: Play, saboteur: Saboteur) -> None:
    report = play(saboteur("garbler"))
    assert report.exit_code == 1
    assert report.counts["corrupted"] == report.counts["lost"] > 0


@pytest.mark.slow
def test_a_list_that_changes_while_it_is_read_in_chunks_is_seen(play: Play, saboteur: Saboteur) -> None:
    report = play(saboteur("shifting_list"))
    assert report.exit_code == 1
    assert {"corrupted", "lost", "cloned"} & set(report.counts)


@pytest.mark.slow
def test_a_queue_that_gives_the_last_first_is_caught_where_order_was_promised(play: Play, saboteur: Saboteur) -> None:
    report = play(saboteur("last_first"))
    assert report.exit_code == 1
    assert set(report.counts) == {"reordered"}
    assert play(saboteur("last_first"), settings=["contract=effectively-once"]).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stall", "socket_timeout"),
    [(3, 1), pytest.param(7, 5, marks=pytest.mark.nightly)],  # 5 is redis-py 8's own
)
def test_a_stalled_server_under_redis_pys_own_retries_doubles_messages(
    server: Server, saboteur: Saboteur, monkeypatch: pytest.MonkeyPatch, stall: int, socket_timeout: int
) -> None:
    """Every client times out while the server stands still, and sends its RPUSH again: both are carried out."""
    monkeypatch.setenv("SOCKET_TIMEOUT", str(socket_timeout))
    load = LoadRun(scenario=saboteur("stalled_defaults"), url=server.url, seconds=stall + 3.0, producers=8)
    with under_way(load, output=subprocess.PIPE) as running:
        with server.client() as client:
            when_pushing(client)
        schedule = FaultSchedule([Fault.parse(f"pause:server@0s+{stall}s")], server, running.process.pid)
        with schedule.at_work():
            report = running.wait()
    assert report.exit_code == 1
    assert {"duplicated", "lost"} & set(report.counts)
