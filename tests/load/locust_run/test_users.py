"""Users in a locustfile: the events that Locust gets, beside a scenario and alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_redisq.load.locust_process import LoadReport, LoadRun, run
from pytest_redisq.servers import Server


def test_each_command_is_an_event_with_name_latency_bytes_and_exception(
    server: Server, saboteur: Callable[[str], str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "locust", "-f", saboteur("own_users"), "--headless", "-t", "60s"]
    command += ["--json-file", str(tmp_path / "told"), "--loglevel", "ERROR", "--only-summary"]
    # The user ends the run by `runner.quit()`, long before its time.
    subprocess.run(command, env=os.environ | {"REDIS_URL": server.url}, capture_output=True, timeout=50, check=False)
    entries = {(each["method"], each["name"]): each for each in json.loads((tmp_path / "told.json").read_text())}
    key = "redisq:own-users"
    assert set(entries) == {
        ("SET", "page"), ("GET", key), ("RPUSH", key), ("DEL", key), ("RPUSH", "jobs"), ("BLPOP", "jobs"),
    }  # fmt: skip
    assert entries["GET", key]["total_content_length"] == 1000
    assert [each["num_failures"] for each in entries.values() if each["num_failures"]] == [1]
    assert entries["RPUSH", key]["num_failures"] == 1
    assert all(0 < each["total_response_time"] < 250 for each in entries.values())


@pytest.fixture
def readers(server: Server, saboteur: Callable[[str], str]) -> Callable[..., LoadReport]:
    """Runs the locustfile `readers` for a second."""
    return lambda **options: run(
        LoadRun(**{"scenario": saboteur("readers"), "url": server.url, "seconds": 1} | options)
    )


@pytest.mark.parametrize("engine", ["epoll", pytest.param("locust", marks=pytest.mark.slow)])
def test_users_beside_a_scenario_run_with_it(
    readers: Callable[..., LoadReport], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """They never started."""
    monkeypatch.setenv("BESIDE", "1")
    report = readers(engine=engine, fail_if=["GET.p99>1us"])
    assert (report.outcome, report.exit_code) == ("pass", 2)
    assert report.told["missed"][0].startswith("GET.p99>1us")
    assert report.figures["BLPOP.p50"] > 0 < report.figures["SET.p50"]


def test_users_without_a_scenario_end_on_time_and_are_judged_by_thresholds_alone(
    readers: Callable[..., LoadReport],
) -> None:
    """The time was not obeyed, and the run ended without a report."""
    report = readers()
    assert 1 <= report.told["seconds"] < 5
    assert (report.outcome, report.exit_code) == ("unknown", 3)
    assert "No verdict: the locustfile has no scenario" in report.output
    assert report.figures["requests"] > 10


@pytest.mark.slow
@pytest.mark.parametrize(("wrong", "status"), [("", 0), ("1", 2)])
def test_users_without_a_scenario_pass_where_no_threshold_is_missed(
    readers: Callable[..., LoadReport], server: Server, monkeypatch: pytest.MonkeyPatch, wrong: str, status: int
) -> None:
    with server.client() as client:
        client.set("redisq:page", "x")
    monkeypatch.setenv("WRONG", wrong)
    report = readers(fail_if=["errors>0"], processes=1 if wrong else 2)
    assert report.exit_code == status, report.output
