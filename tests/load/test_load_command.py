"""`redisq load`, as a person types it: a server of its own, thresholds, baselines, files, and errors that teach."""

from __future__ import annotations

import contextlib
import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click
import pytest
from click.testing import CliRunner, Result

from pytest_redisq.cli import main
from pytest_redisq.load.load_command import LoadCommand, load, load_options
from pytest_redisq.load.locust_process import LoadReport, LoadRun, scenarios
from pytest_redisq.load.results.exit_status import EXITS
from tests.small_disk import fill, small_disk
from tests.support import local, local_kind


@click.command(cls=LoadCommand)
@load_options
def command(**options: Any) -> None:
    sys.exit(load(local(), **options))


def redisq_load(*words: str) -> Result:
    return CliRunner().invoke(command, [*words])


def test_a_run_on_a_server_of_its_own_is_told_in_files(tmp_path: Path) -> None:
    told, html, csv_prefix = tmp_path / "told.json", tmp_path / "told.html", tmp_path / "told"
    words = ["--json", str(told), "--csv", str(csv_prefix), "--html", str(html)]
    result = redisq_load("blpop_workers", "--time", "1s", "--fail-if", "lost>0", *words)
    assert result.exit_code == 0, result.output
    report = json.loads(told.read_text())
    assert report["verdict"]["outcome"] == "pass"
    assert local_kind() in report["server"]
    assert "redis://" not in told.read_text()
    with (tmp_path / "told_stats.csv").open() as file:
        rows = {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}
    for kind in ("RPUSH", "BLPOP"):
        row = rows[kind, "jobs"]
        assert int(row["Request Count"]) == report["verdict"]["totals"]["delivered"] > 0
        assert 0 < float(row["Average Response Time"]) < float(row["Max Response Time"])
    assert {"told_stats_history.csv", "told_failures.csv"} < {path.name for path in tmp_path.iterdir()}
    assert '"method": "BLPOP"' in html.read_text()


@pytest.mark.slow
def test_what_was_saved_is_compared_and_a_regression_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert redisq_load("blpop_workers", "--time", "1s", "--rate", "500", "--save", "main").exit_code == 0
    kept = tmp_path / ".redisq-load" / "main.json"
    runs = json.loads(kept.read_text())
    runs["runs"][0]["rate"] *= 100
    kept.write_text(json.dumps(runs))
    result = redisq_load("blpop_workers", "--time", "1s", "--rate", "500", "--compare", "main")
    assert result.exit_code == 2
    assert "WORSE rate is" in result.output


@pytest.mark.slow
def test_a_fault_is_struck_and_its_moment_told(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    result = redisq_load("blpop_workers", "--time", "6s", "--fault", "pause:server@4s+1s", "--json", str(told))
    assert result.exit_code == 0, result.output
    assert [line.partition(": ")[2] for line in json.loads(told.read_text())["faults"]] == [
        "the server was paused",
        "the server was resumed",
    ]


@contextlib.contextmanager
def under_way(*words: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """`redisq load` in a process of its own, and what it says of itself."""
    code = "from pytest_redisq.cli import main; main()"
    command = [sys.executable, "-u", "-c", code, "load", *words, "--server", local_kind()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        yield process, process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_drained_unjudged_and_unsaved(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are no more than one, and no run follows. Progress was told meanwhile."""
    monkeypatch.chdir(tmp_path)
    with under_way("blpop-workers", "--time", "10m", "--repeat", "2", "--save", "main") as (process, told):
        line = next(line for line in told if "messages/s" in line)
        process.send_signal(number)
        process.send_signal(number)
        verdict = told.read()
    for word in ("p50", "p99", "depth", "in flight", "lost so far 0", "errors 0"):
        assert word in line
    assert verdict.count("effectively-once unknown: the run was interrupted after ") == 1
    assert "Traceback" not in verdict
    assert process.returncode == 3
    assert "main.json: the run was interrupted" in verdict
    assert list((tmp_path / ".redisq-load").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "moment", "lesson"),
    [
        (["--knee", "--fail-if", "lost>0"], "messages/s", "ended by a signal before the knee was found"),
        ([], "redisq: ", "ended by a signal before it had begun"),
    ],
)
def test_a_signal_that_leaves_nothing_to_judge_is_exit_code_3(words: list[str], moment: str, lesson: str) -> None:
    with under_way("drain", "--time", "10m", *words) as (process, told):
        assert any(moment in line for line in told)
        process.send_signal(signal.SIGINT)
        rest = told.read()
    assert lesson in rest
    assert "Traceback" not in rest
    assert process.returncode == 3


def test_a_run_without_room_for_its_report_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "small", 256) as folder:
        fill(folder, room=8192)
        monkeypatch.setenv("TMPDIR", str(folder))
        with under_way("drain") as (process, told):
            lesson = told.read()
    assert "Temporary files cannot be written to" in lesson
    assert "What to do: make room there, or set TMPDIR to another folder." in lesson
    assert "Traceback" not in lesson
    assert process.returncode == 4


@pytest.mark.slow
@pytest.mark.parametrize(("words", "status"), [([], 0), (["--fault", "pause:server@3s+0.1s"], 3)])
def test_a_disk_that_gets_full_during_a_run_costs_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int
) -> None:
    """A fault can then not be noted where the run reads of it, and is told to have failed."""
    with small_disk(tmp_path / "small", 2048) as folder:
        monkeypatch.setenv("TMPDIR", str(folder))
        with under_way("blpop-workers", "--rate", "500", "--time", "4s", *words) as (process, told):
            assert any("messages/s" in line for line in told)
            fill(folder)
            verdict = told.read()
    assert "effectively-once holds: " in verdict
    assert ("struck nothing: Temporary files cannot be written to" in verdict) == bool(words)
    assert "Traceback" not in verdict
    assert process.returncode == status


@pytest.mark.parametrize("words", [["--server", "redis://127.0.0.1:1/0"], ["--compare", "nothing"]])
def test_a_run_that_came_to_nothing_does_not_pass_for_a_loss(words: list[str]) -> None:
    result = CliRunner().invoke(main, ["load", "drain", *words])
    assert result.exit_code == 4, result.output


def test_the_knee_is_where_the_rate_is_no_longer_kept_to_however_many_receive(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(asked: LoadRun, *_: Any) -> LoadReport:
        kept_to = min(float(asked.rate), 1000.0)
        return LoadReport(status=0, told={"figures": {"paced": kept_to, "rate": 3 * kept_to}}, output="")

    monkeypatch.setattr("pytest_redisq.load.load_command._run", run)
    result = redisq_load("xadd-fanout", "--knee", "--fail-if", "lost>0")
    assert 1000 <= float(result.output.rpartition("capacity: ")[2].split()[0].replace(",", "")) <= 1112


@pytest.mark.parametrize(
    ("words", "lesson"),
    [
        (["blpop_worker"], "Did you mean 'blpop_workers'?"),
        (["drain", "--time", "soon"], "'soon' is not a time; write 30s, 5m or 1h"),
        (["drain", "--rate", "fast"], "write messages per second, such as 1000"),
        (["drain", "--fail-if", "p99>5"], "a latency needs a unit"),
        (["drain", "--fault", "boom@1s"], "no such fault: 'boom'"),
        (["lrange-payload", "--payload", "9"], "10"),
        (["drain", "--compare", "nothing"], "keep one with --save nothing"),
        (["drain", "--save", "a/b"], "no name for a baseline"),
        (["drain", "--json", "nowhere/told.json"], "--json: nowhere/told.json cannot be written: No such file"),
        (["drain", "--csv", "nowhere/told"], "--csv: nowhere/told_stats.csv cannot be written: No such file"),
        (["drain", "--html", "nowhere/told.html"], "--html: nowhere/told.html cannot be written: No such file"),
        (["drain", "--json", "/dev/full"], "--json: /dev/full cannot be written: No space left on device"),
        (["drain", "--nonsense"], "No such option"),
        ([], "Missing argument 'NAME'"),
        (["drain", "--knee"], "give --fail-if"),
        (["drain", "--knee", "--fail-if", "lost>0", "--json", "told", "--rate", "5"], "takes no --rate, --json"),
        (["nowhere.py"], "There is no locustfile 'nowhere.py'"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(words: list[str], lesson: str) -> None:
    result = redisq_load(*words)
    assert result.exit_code == 4
    assert lesson in result.output
    assert "Traceback" not in result.output


def test_help_and_readme_have_the_exit_statuses_of_the_one_table() -> None:
    told = CliRunner().invoke(main, ["load", "--help"]).output.partition("Exit status:\n")[2]
    assert [tuple(line.split(maxsplit=1)) for line in told.splitlines()] == [
        (str(status), meaning) for status, meaning in EXITS.items()
    ]
    readme = (Path(__file__).parents[2] / "loadtests" / "README.md").read_text()
    rows = readme.partition("| exit status | meaning |\n|---|---|\n")[2].partition("\n\n")[0].splitlines()
    assert rows == [f"| {status} | {meaning} |" for status, meaning in EXITS.items()]


def test_the_scenarios_are_listed() -> None:
    told = CliRunner().invoke(main, ["load", "--list"])
    assert told.exit_code == 0
    assert "drain           A list that is drained in chunks while producers push to it." in told.output
    assert len(told.output.splitlines()) == len(scenarios())


def test_a_crash_of_redisq_itself_is_no_broken_contract() -> None:
    """Python's own status for a traceback is 1."""

    @click.command(cls=LoadCommand)
    def crashing() -> None:
        raise ZeroDivisionError("a mistake of ours")

    result = CliRunner().invoke(crashing, [])
    assert result.exit_code == 3
    assert "ZeroDivisionError: a mistake of ours" in result.output


def test_a_reader_that_leaves_changes_neither_the_run_nor_its_status() -> None:
    with under_way("drain", "--time", "1s", "--fail-if", "p99>1us") as (process, told):
        assert "redisq: " in told.readline()
        told.close()
        assert process.wait(100) == 2
