"""Limits of the process and of the server are looked at before anything begins, and what to do is said."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_redisq.load.locust_process import LoadError, LoadRun, run
from pytest_redisq.servers import Server

pytestmark = [pytest.mark.process]

_FEW_DESCRIPTORS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
import redis
from pytest_redisq.load.locust_run.connection_limits import connection_obstacle
with redis.Redis.from_url(sys.argv[1]) as client:
    print([connection_obstacle(*each, client) for each in ((50, 1), (1000, 1), (1000, 20))])
"""


def test_more_clients_than_the_server_takes_are_refused_at_once(server: Server) -> None:
    server.config("maxclients", 100)
    try:
        with pytest.raises(LoadError, match=r"takes 100 clients \(maxclients\).*\n.*CONFIG SET maxclients"):
            run(LoadRun(scenario="blpop-workers", url=server.url, consumers=200, seconds=60))
    finally:
        server.config("maxclients", 10_000)


def test_more_connections_than_there_are_descriptors_are_refused_unless_they_are_spread(server: Server) -> None:
    words = [sys.executable, "-c", _FEW_DESCRIPTORS, server.url]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert told.startswith("[None, '1000 connections need 1200 file descriptors in each process, which may have 300.")
    assert "ulimit -Hn 1200 as root" in told
    assert told.rstrip().endswith("None]")
