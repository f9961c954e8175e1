"""A master and three workers, each started by hand as on machines of their own, on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pytest_redisq.load.locust_process import LoadRun, RunningLoad, locustfile, under_way
from pytest_redisq.servers import Server
from tests.load.conftest import when_pushing

pytestmark = pytest.mark.slow

WORKERS = 3


@contextlib.contextmanager
def machines(server: Server, seconds: float) -> Iterator[tuple[RunningLoad, list[subprocess.Popen[bytes]]]]:
    """Workers need the locustfile and the master's address: not the server's, and none of our options."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    master = (
        "--master",
        "--expect-workers",
        str(WORKERS),
        "--master-bind-host",
        "127.0.0.1",
        "--master-bind-port",
        port,
    )
    load = LoadRun(scenario="blpop_workers", url=server.url, seconds=seconds, drain_seconds=10, locust=master)
    words = ["--worker", "--master-host", "127.0.0.1", "--master-port", port, "--loglevel", "ERROR"]
    command = [sys.executable, "-m", "locust", "-f", str(locustfile("blpop_workers")), *words]
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    workers = [subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) for _ in range(WORKERS)]
    try:
        with under_way(load, output=subprocess.PIPE) as running:
            yield running, workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def test_books_of_three_machines_are_one(server: Server) -> None:
    with machines(server, 3.0) as (running, _):
        report = running.wait()
    assert (report.exit_code, report.counts) == (0, {})
    totals = report.told["verdict"]["totals"]
    assert totals["delivered"] == totals["acknowledged"] > 100


def test_a_machine_that_dies_is_named_and_the_run_is_not_judged(server: Server) -> None:
    with machines(server, 8.0) as (running, workers):
        with server.client() as client:
            when_pushing(client)
        workers[0].send_signal(signal.SIGKILL)
        report = running.wait()
    assert report.exit_code == 3
    assert report.counts == {}
    assert sum("are missing" in reason for reason in report.told["verdict"]["reasons"]) == 1
