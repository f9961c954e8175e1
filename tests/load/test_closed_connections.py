"""Why the server closed connections of a load run is told as the server tells it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_redisq.load.locust_process import LoadRun
from pytest_redisq.load.timed_faults import run_struck
from pytest_redisq.servers import start
from tests.support import local


@pytest.mark.slow
def test_a_reply_that_is_too_large_is_named_and_nothing_is_called_lost(saboteur: Callable[[str], str]) -> None:
    server = start(local(server_args=("--client-output-buffer-limit", "normal 1mb 0 0")))
    try:
        with server.client() as client:
            client.set("large", b"x" * (32 << 20))
        load = LoadRun(
            scenario=saboteur("large_reads"), url=server.url, seconds=1.0, rate="20", drain_seconds=1, own_server=True
        )
        report = run_struck(load, server, [])
    finally:
        server.stop()
    assert "the server closed connections: output buffer limit: CONFIG client-output-buffer-limit" in report.output
    assert (report.outcome, dict(report.counts)) == ("pass", {})
