"""A server for the tests of the runner, empty for each of them, and a look at what they leave behind."""

from __future__ import annotations

import asyncio
import glob
import multiprocessing.util
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_redisq.servers import Server, start
from tests.support import eventually, local


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    server = start(local())
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """Empty; afterwards no client of a worker is left on it."""
    with shared_server.client() as client:
        client.flushall()
        before = len(client.client_list())
        yield shared_server
        shared_server.revive()
        eventually(lambda: len(client.client_list()) <= before)


@pytest.fixture
def own_server() -> Iterator[Server]:
    """For tests that kill it: it keeps what it has."""
    server = start(local(persistence="aof"))
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _place() -> Iterator[Path]:
    """A temporary folder of the test's own: another xdist worker's runs are not its leftovers."""
    multiprocessing.util.get_temp_dir()  # made at first need, for the whole process: its fork server's socket is there
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture(autouse=True)
def _nothing_is_left(_place: Path) -> Iterator[None]:
    threads = set(threading.enumerate())
    yield
    assert not multiprocessing.active_children()
    assert set(threading.enumerate()) <= threads
    # Path.glob raises, before Python 3.13, if a folder is removed meanwhile.
    assert not glob.glob("redisq-*/run-*", root_dir=_place)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert not _zombies()


def _zombies() -> list[int]:
    """Children of this process that have not been waited for."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(parent) == os.getpid():
            found.append(int(entry.parent.name))
    return found
