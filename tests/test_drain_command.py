"""`redisq drain` from outside: what it says, how it ends, and which rights it needs."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from pytest_redisq.servers import Server
from tests.support import eventually


def command(url: str, path: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "pytest_redisq", "drain", "jobs", "--to", str(path), "--url", str(url), *more]


def drained(url: str, path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(url, path, *more), capture_output=True, text=True, check=False, timeout=60)


def fill(client: redis.Redis, count: int = 20_000) -> list[bytes]:
    client.rpush("jobs", *range(count))
    return [b"%d" % number for number in range(count)]


def stopped_on_the_way(server: Server, path: Path, number: signal.Signals) -> tuple[int, str]:
    with subprocess.Popen(command(server.url, path, "--chunk", "10"), stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: path.exists() and path.stat().st_size > 0)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    return process.returncode, told


def test_what_a_killed_drain_holds_is_told_with_a_status_of_its_own(
    server: Server, client: redis.Redis, tmp_path: Path
) -> None:
    elements, path, other = fill(client), tmp_path / "jobs.txt", tmp_path / "other.txt"
    assert stopped_on_the_way(server, path, signal.SIGKILL)[0] == -signal.SIGKILL
    result = drained(server.url, other)
    assert result.returncode == 3
    assert re.search(r"NOT FINISHED: [0-9,]+ elements of 'jobs' are held by a drain to ", result.stderr), result.stderr
    assert re.search(rf"{path} \(host .*, process [0-9]+\), for [0-9]+ s more", result.stderr)
    assert re.search(r"repeat this one after [0-9:]{8}, or now with --take-over", result.stderr)
    assert "or it is empty" not in result.stdout
    assert drained(server.url, path).returncode == 0, "with its own file it goes on at once"
    assert path.read_bytes().split() == elements


def test_a_dead_drains_part_is_taken_over_on_request(server: Server, client: redis.Redis, tmp_path: Path) -> None:
    elements, path, other = fill(client), tmp_path / "jobs.txt", tmp_path / "other.txt"
    stopped_on_the_way(server, path, signal.SIGKILL)
    assert drained(server.url, other, "--take-over").returncode == 0
    assert set(path.read_bytes().split()[:-1] + other.read_bytes().split()) >= set(elements)
    assert client.dbsize() == 0


def test_beside_a_running_drain_the_same_file_is_refused(server: Server, client: redis.Redis, tmp_path: Path) -> None:
    elements, path = fill(client), tmp_path / "jobs.txt"
    with subprocess.Popen(command(server.url, path, "--chunk", "10"), stderr=subprocess.DEVNULL) as running:
        eventually(lambda: path.exists() and path.stat().st_size > 0)
        running.send_signal(signal.SIGSTOP)
        result = drained(server.url, path)
        running.send_signal(signal.SIGCONT)
        assert running.wait(60) == 0
    assert result.returncode == 3
    assert "another drain is writing to" in result.stderr
    assert f"process {running.pid}" in result.stderr
    assert path.read_bytes().split() == elements


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_drain_in_good_order(
    server: Server, client: redis.Redis, tmp_path: Path, number: signal.Signals
) -> None:
    """Its claim is free at once, for any file, and nothing comes twice."""
    elements, path, other = fill(client), tmp_path / "jobs.txt", tmp_path / "other.txt"
    status, told = stopped_on_the_way(server, path, number)
    assert (status, "interrupted" in told, "Traceback" in told) == (1, True, False)
    assert drained(server.url, other).returncode == 0
    assert path.read_bytes().split() + other.read_bytes().split() == elements


#: `redisq drain`, which gets a signal while its main thread holds a lock of `threading.Condition` for the Nth time, on
#: behalf of what writes the file: at the only place where an exception leaves that lock locked for good.
IN_A_LOCK = """
import os, signal, sys, threading
number, nth = int(sys.argv.pop(1)), int(sys.argv.pop(1))
main_thread, enter, seen = threading.get_ident(), threading.Condition.__enter__, []

def for_the_file():
    frame = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.endswith("chunk_writer.py"):
        frame = frame.f_back
    return frame is not None

def entered(condition):
    held = enter(condition)
    if threading.get_ident() == main_thread and for_the_file():
        seen.append(None)
        if len(seen) == nth:
            os.kill(os.getpid(), number)
    return held

threading.Condition.__enter__ = entered
from pytest_redisq.__main__ import main
sys.argv[0] = "redisq"
main()
"""


@pytest.mark.parametrize(
    ("number", "nth"),
    [(signal.SIGTERM, 1), (signal.SIGTERM, 2), (signal.SIGTERM, 3), (signal.SIGINT, 4), (signal.SIGHUP, 8)],
)
def test_a_signal_within_a_lock_does_not_stop_the_drain_for_good(
    server: Server, client: redis.Redis, tmp_path: Path, number: signal.Signals, nth: int
) -> None:
    elements, path = fill(client, 2000), tmp_path / "jobs.txt"
    _, *words = command(server.url, path, "--chunk", "100")
    words = [sys.executable, "-c", IN_A_LOCK, str(int(number)), str(nth), *words[2:]]
    result = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, "interrupted" in result.stderr) == (1, True), result
    assert drained(server.url, path).returncode == 0
    assert path.read_bytes().split() == elements


def test_a_frozen_server_is_waited_for_as_long_as_asked(server: Server, client: redis.Redis, tmp_path: Path) -> None:
    elements, path = fill(client), tmp_path / "jobs.txt"
    words = command(server.url, path, "--chunk", "10", "--timeout", "1.5")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: path.exists() and path.stat().st_size > 0)
        server.pause()
        try:
            _, told = process.communicate(timeout=30)
        finally:
            server.resume()
    assert (process.returncode, "failed" in told) == (1, True), told
    assert drained(server.url, path).returncode == 0
    assert path.read_bytes().split() == elements


@pytest.mark.parametrize("when", ["before it begins", "on the way"])
def test_one_interrupt_is_enough_when_the_server_is_frozen(
    server: Server, client: redis.Redis, tmp_path: Path, when: str
) -> None:
    elements, path = fill(client), tmp_path / "jobs.txt"
    if when == "before it begins":
        server.pause()
    with subprocess.Popen(command(server.url, path, "--chunk", "10"), stderr=subprocess.PIPE, text=True) as process:
        try:
            if when == "on the way":
                eventually(lambda: path.exists() and path.stat().st_size > 0)
                server.pause()
            else:
                asleep = Path(f"/proc/{process.pid}/wchan")
                eventually(lambda: "poll" in asleep.read_text() or "select" in asleep.read_text())
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=30)
        finally:
            server.resume()
    assert process.returncode == 1, told
    assert "Traceback" not in told
    assert drained(server.url, path).returncode == 0
    assert path.read_bytes().split() == elements


def test_a_user_with_rights_to_the_keys_of_the_list_alone_may_drain(
    server: Server, client: redis.Redis, tmp_path: Path
) -> None:
    elements, path = fill(client, 1000), tmp_path / "jobs.txt"
    client.acl_setuser("drainer", enabled=True, passwords=["+secret"], keys=["jobs*"], commands=["+@all"])
    try:
        where = str(server.url).split("@")[-1]
        result = drained(f"redis://drainer:secret@{where}", path)
    finally:
        client.acl_deluser("drainer")
    assert result.returncode == 0, result.stderr
    assert path.read_bytes().split() == elements
