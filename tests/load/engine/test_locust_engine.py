"""Actors that are users of Locust's."""

from __future__ import annotations

import json
import subprocess
import sys

from pytest_redisq.servers import Server


def test_the_pace_counts_from_when_all_are_connected(server: Server) -> None:
    """As in the epoll engine: what is late for our own connecting is not the server's delay."""
    command = [sys.executable, "-m", "tests.load.engine.paced_locust_engine", server.url]
    told = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    assert told["sent"] >= 50
    assert told["connecting"] > 0
