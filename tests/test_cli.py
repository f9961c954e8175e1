"""The `redisq` command: what it prints, how it exits, and that a mistake of its user's never ends in a traceback."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.cli import main
from pytest_redisq.servers import Server
from tests.servers.conftest import anywhere
from tests.support import eventually

Redisq = Callable[..., Result]


@pytest.fixture
def redisq() -> Redisq:
    """Run `redisq` with these words."""

    def run(*words: str) -> Result:
        result = CliRunner().invoke(main, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@pytest.mark.parametrize(
    "words",
    [
        ["dmeo"],
        ["demo", "--server", "dokcer"],
        ["demo", "--sever", "docker"],
        ["demo", "--json", "no/such/folder/demo.json"],
        ["demo", "--server", "process", "--image", "redis:8"],
        ["drain"],
        ["drain", "jobs"],
        ["drain", "jobs", "--to", "jobs.txt", "--url", "localhost:6379"],
        ["drain", "jobs", "--to", "jobs.txt", "--url", "docker"],
        ["drain", "jobs", "--to", "jobs.txt", "--url", "redis://localhost:1/0"],
        ["drain", "jobs", "--to", "jobs.txt", "--chunk", "0"],
        ["drain", "jobs", "--to", "-"],
        ["drain", "jobs", "--to", "/dev/null"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_told_and_what_to_do(words: list[str], redisq: Redisq, snapshot: SnapshotAssertion) -> None:
    result = redisq(*words)
    assert result.exit_code in (1, 2)
    assert anywhere(result.output) == snapshot


@pytest.mark.slow
@pytest.mark.timeout(300)  # ten seconds of work, on a machine that may have more to do
def test_the_demo_catches_all_four_and_writes_it_down(redisq: Redisq, tmp_path: Path) -> None:
    """The main job, as `make demo` does it."""
    result = redisq("demo", "--json", str(tmp_path / "demo.json"))
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "demo.json").read_text())
    assert f"redisq demo on {record['server']}" in " ".join(result.output.split())
    assert [
        (story["id"], story["broken"]["verdict"], bool(story["broken"]["anomalies"]), story["fixed"]["verdict"])
        for story in record["stories"]
    ] == [(story, "fail", True, "pass") for story in ("S1", "S2", "S3", "S4")]


@pytest.mark.slow
@pytest.mark.timeout(300)  # ten seconds of work, on a machine that may have more to do
def test_the_demo_plays_on_somebodys_own_server(redisq: Redisq, server: Server, client: redis.Redis) -> None:
    """And leaves all as it was, settings too."""
    client.rpush("jobs", "theirs")
    before = client.config_get("*")
    result = redisq("demo", "--server", server.url)
    assert result.exit_code == 0, result.output
    assert "limits of your own server are not changed" in result.output
    assert [client.keys(), client.lrange("jobs", 0, -1)] == [[b"jobs"], [b"theirs"]]
    assert client.config_get("*") == before


def test_a_list_is_drained_into_a_file(redisq: Redisq, server: Server, client: redis.Redis, tmp_path: Path) -> None:
    client.rpush("jobs", *range(25_000))
    path = tmp_path / "jobs.txt.gz"
    result = redisq("drain", "jobs", "--to", str(path), "--url", server.url)
    assert result.exit_code == 0, result.output
    assert "25,000 elements" in result.output
    assert gzip.decompress(path.read_bytes()).split() == [b"%d" % number for number in range(25_000)]
    assert client.dbsize() == 0


def test_who_watches_a_drain_sees_how_far_it_has_come(server: Server, client: redis.Redis, tmp_path: Path) -> None:
    client.rpush("jobs", *range(25_000))
    watched, terminal = pty.openpty()
    command = [sys.executable, "-m", "pytest_redisq", "drain", "jobs", "--to", str(tmp_path / "jobs.txt")]
    environ = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [*command, "--url", server.url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal, env=environ
    ) as process:
        os.close(terminal)
        seen = b""
        with contextlib.suppress(OSError), open(watched, "rb", buffering=0) as screen:  # Linux: an error is the end
            while chunk := screen.read(4096):
                seen += chunk
        assert process.stdout is not None
        assert b"25,000 elements" in process.stdout.read()
    assert process.returncode == 0
    words = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).split()
    assert b"jobs" in words
    assert b"100%" in words
    assert b"25000/25000" in words


def test_a_drain_that_is_interrupted_says_how_to_go_on(server: Server, client: redis.Redis, tmp_path: Path) -> None:
    path = tmp_path / "jobs.txt"
    client.rpush("jobs", *range(100_000))
    command = [sys.executable, "-m", "pytest_redisq", "drain", "jobs", "--to", str(path), "--url", server.url]
    with subprocess.Popen([*command, "--chunk", "10"], stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: path.exists() and path.stat().st_size > 0)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert (process.returncode, "interrupted" in told, "run the same command again" in told) == (1, True, True)
    subprocess.run(command, check=True, capture_output=True)
    assert path.read_text().split() == [str(number) for number in range(100_000)]


def test_jsonl_files_hold_any_bytes(redisq: Redisq, server: Server, client: redis.Redis, tmp_path: Path) -> None:
    client.rpush("jobs", "two\nlines", b"\xff")
    path = tmp_path / "jobs.jsonl"
    assert redisq("drain", "jobs", "--to", str(path), "--url", server.url).exit_code == 0
    assert [json.loads(line) for line in path.read_text().splitlines()] == ["two\nlines", {"base64": "/w=="}]


def test_an_element_that_is_no_line_stays(redisq: Redisq, server: Server, client: redis.Redis, tmp_path: Path) -> None:
    """Elements that cannot be written are not removed."""
    client.rpush("jobs", "two\nlines")
    result = redisq("drain", "jobs", "--to", str(tmp_path / "jobs.txt"), "--url", server.url)
    assert result.exit_code == 1
    assert "--framing json" in result.output
    assert redisq("drain", "jobs", "--to", str(tmp_path / "jobs.jsonl"), "--url", server.url).exit_code == 0
    assert (tmp_path / "jobs.jsonl").read_text() == '"two\\nlines"\n'


def test_a_key_that_is_no_list_is_told(redisq: Redisq, server: Server, client: redis.Redis, tmp_path: Path) -> None:
    client.set("jobs", "text")
    result = redisq("drain", "jobs", "--to", str(tmp_path / "jobs.txt"), "--url", server.url)
    assert result.exit_code == 1
    assert "WRONGTYPE" in result.output
    assert "give the key of a list" in result.output
    assert client.get("jobs") == b"text"


def test_a_missing_list_is_said_to_be_missing(redisq: Redisq, server: Server, tmp_path: Path) -> None:
    result = redisq("drain", "jbos", "--to", str(tmp_path / "jobs.txt"), "--url", server.url)
    assert result.exit_code == 0
    assert "there is no list 'jbos' at this server, or it is empty" in result.output


LOSING = """\
{"actor": "p", "kind": "enqueue", "outcome": "ok", "messages": [[0, 0], [0, 1]], "invoked_ns": 1, "ended_ns": 2}
{"actor": "c", "kind": "dequeue", "outcome": "ok", "messages": [[0, 1]], "invoked_ns": 3000, "ended_ns": 4000}
{"quiescence": {"at_ns": 5000}}
"""


@pytest.mark.parametrize(("contract", "status"), [("at-least-once", 1), ("at-most-once", 0)])
def test_a_saved_history_is_judged_again(redisq: Redisq, tmp_path: Path, contract: str, status: int) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(LOSING)
    result = redisq("check", str(path), contract)
    assert result.exit_code == status, result.output
    assert f'"{contract}"' in result.output


def test_a_saved_history_tells_of_a_fault_that_struck_nothing(redisq: Redisq, tmp_path: Path) -> None:
    """As the run itself did: it is unknown whether the queue keeps its contract under that fault."""
    path = tmp_path / "run.jsonl"
    path.write_text(LOSING + '{"fault": {"fault": "drop:connections@1", "words": "0 closed", "at_ns": 7}}\n')
    result = redisq("check", str(path), "at-most-once")
    assert result.exit_code == 3, result.output
    assert result.output.startswith("at-most-once unknown: drop:connections@1 struck nothing: 0 closed\n")


def test_a_history_without_an_end_cannot_be_judged(redisq: Redisq, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(LOSING.rpartition('{"quiescence')[0])
    result = redisq("check", str(path), "at-least-once", "--json")
    assert result.exit_code == 3
    assert json.loads(result.output)["outcome"] == "unknown"


def test_a_broken_history_and_a_mistyped_contract_are_told(
    redisq: Redisq, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"actor": "p", "kind": "enquue"}\n' + LOSING)
    texts = [redisq("check", str(path), contract).output for contract in ("at-least-once", "at-lest-once")]
    assert [text.replace(str(tmp_path), "<tmp>") for text in texts] == snapshot
