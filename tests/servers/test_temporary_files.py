"""Folders for temporary files as they are found: with long names, missing, without room."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_redisq.errors import HistoryError
from pytest_redisq.history import Journal, read_history
from pytest_redisq.model import Kind, Message
from tests.inner import InnerRuns
from tests.small_disk import fill, small_disk
from tests.support import local_kind

_TESTS = """
import redis

def take(client):
    return client.lpop("jobs")

def take_by_url(url):
    with redis.Redis.from_url(url) as client:
        client.lpop("jobs")

def takers(world):
    world.actor(take)
    world.actor(take_by_url, gets="url")
    world.run()

def test_processes(redisq):
    run = redisq.run(redisq.list("jobs"), producers=1, consumers=1, messages=10, workers="process")
    run.verify("at-most-once")

def test_explored(redisq):
    redisq.explore(takers, schedules=3)
"""


@pytest.mark.parametrize("length", [120, 240])
def test_a_long_path_of_temporary_files_is_no_hindrance(length: int, inner: InnerRuns, tmp_path: Path) -> None:
    """A unix socket's path has a hundred characters at most; where it has more, actors come by TCP."""
    folder = tmp_path / ("x" * length)
    folder.mkdir()
    inner.file("test_it.py", _TESTS)
    inner.run("-p", "no:cacheprovider", environ={"TMPDIR": str(folder)}).assert_outcomes(passed=2)


def test_a_folder_that_is_missing_is_replaced_by_another(inner: InnerRuns) -> None:
    inner.file("test_it.py", _TESTS)
    inner.run(environ={"TMPDIR": "/no/such/folder"}).assert_outcomes(passed=2)


@pytest.fixture
def almost_full(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a small file only."""
    with small_disk(tmp_path / "small", 256) as folder:
        fill(folder, room=8192)
        yield folder


_WITHOUT_ROOM = """
import tempfile
from pathlib import Path
from pytest_redisq.errors import RedisqError
from pytest_redisq.servers.temporary_folder import explain_full_disk
from pytest_redisq.runner.status_table import KillRequest, StatusTable

folder = Path(tempfile.mkdtemp(dir={folder!r}))
try:
    with explain_full_disk():
        table = StatusTable(folder / "status_table", 10_000)
        for index in range(10_000):  # what is not there when it is wanted ends the process by SIGBUS
            table.status(index).request_kill(KillRequest.DIE_RECEIVING)
except RedisqError as error:
    print(error)
"""


def test_a_full_disk_is_told_in_words_and_ends_no_process_by_sigbus(almost_full: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_ROOM.format(folder=str(almost_full))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    assert "Temporary files cannot be written to" in done.stdout
    assert "No space left on device.\nWhat to do: make room there, or set TMPDIR to another folder." in done.stdout


def test_a_run_without_room_for_its_processes_fails_in_words(almost_full: Path, inner: InnerRuns) -> None:
    inner.file("test_it.py", _TESTS)
    result = inner.run("-k", "processes", "-p", "no:cacheprovider", environ={"TMPDIR": str(almost_full)})
    assert result.ret == 1, "no SIGBUS, no internal error"
    text = result.stdout.str()
    assert "Temporary files cannot be written to" in text or "server" in text


_LONG_RUN = """
def test_processes(redisq):
    redisq.run(redisq.list("jobs"), messages=20_000, workers="process").verify("at-most-once")
"""


def test_a_run_whose_history_finds_no_more_room_fails_in_words(almost_full: Path, inner: InnerRuns) -> None:
    os.truncate(almost_full / "fill", 0)  # there is room for the beginning of it
    inner.file("test_it.py", _LONG_RUN)
    result = inner.run("-p", "no:cacheprovider", environ={"TMPDIR": str(almost_full)})
    assert result.ret == 1
    text = result.stdout.str()
    assert re.search(
        r"(Temporary files|The history of the run) cannot be written to .*No space left on device\."
        r".*\[.*(producer|consumer)-0.*\]\n.*What to do: make room there",
        text,
    ), text
    assert "Traceback" not in text


def test_a_history_without_more_room_is_told_in_words_and_can_be_read_as_far_as_it_goes(almost_full: Path) -> None:
    written = itertools.count()
    with Journal(almost_full / "history") as journal:

        def fill() -> None:
            for number in written:
                journal.ok(journal.invoke("worker", Kind.ENQUEUE, [Message(0, number)]))

        with pytest.raises(HistoryError, match=r"No space left on device\.\nWhat to do: make room there"):
            fill()
    assert next(written) - 2 <= len(list(read_history(almost_full / "history"))) <= next(written)


@pytest.mark.slow
def test_a_demo_without_room_ends_in_words(almost_full: Path) -> None:
    os.truncate(almost_full / "fill", 170_000)
    done = subprocess.run(
        [sys.executable, "-m", "pytest_redisq", "demo"],
        env=os.environ | {"TMPDIR": str(almost_full), "REDISQ_SERVER": local_kind()},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 1, done
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
