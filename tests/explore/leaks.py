"""Resources that an exploration must not leave: threads, open files, patched clocks, connections, processes."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from pathlib import Path

import redis

from pytest_redisq.servers.temporary_folder import temporary_folder
from tests.support import eventually


def footprint(url: str) -> dict[str, object]:
    """The current resources of this process and of the database at `url`, which only one test uses."""
    gc.collect()  # what other tests have left to it
    temporary_folder()  # which a process makes once, and keeps open until its end
    with redis.Redis.from_url(url) as client:
        ours = client.client_info()["db"]
        # On a server that other tests use at the same time: only what is in this database.
        connections = [each for each in client.client_list() if int(each["db"]) == ours]
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    return {
        "threads": threading.active_count(),
        "files": len(os.listdir("/dev/fd")),
        "clocks": (time.sleep, time.time, time.monotonic, threading.Event.wait),
        "connections": len(connections),
        "processes": children.read_text() if children.exists() else "",
    }


def assert_nothing_is_left(url: str, before: dict[str, object]) -> None:
    """Soon, for the server notices later that a connection was closed."""

    def changed() -> dict[str, tuple[object, object]]:
        return {name: (before[name], now) for name, now in footprint(url).items() if now != before[name]}

    with contextlib.suppress(AssertionError):
        eventually(lambda: not changed())
    assert not changed(), changed()
