"""A server for load runs, and the locustfiles that break something on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from pytest_redisq.check import Contract, Verdict, check
from pytest_redisq.load.bitmap_evidence import KEPT_RANGES, BitmapEvidence
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.locust_process import LoadReport, LoadRun, run
from pytest_redisq.servers import Server, start
from tests.support import eventually, local

ASSIGNMENT = Assignment(
    run="0", url="", engine="epoll", worker=0, producers=1, consumers=1, first_producer=0, first_consumer=0,
    all_producers=1, payload_bytes=20, pipeline=1, rate="",
)  # fmt: skip


def judge(ledger: Ledger, contract: Contract, **fields: Any) -> Verdict:
    """The verdict on a load run's record, as the master comes to it."""
    return check(BitmapEvidence(ledger, **fields), contract, keep=KEPT_RANGES)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = start(local())
    yield server
    server.stop()


@pytest.fixture
def play(server: Server) -> Callable[..., LoadReport]:
    """Run a scenario briefly; afterwards there is no key of it and no client left on the server."""

    def briefly(scenario: str, **run_options: Any) -> LoadReport:
        with server.client() as client:
            clients = client.info("clients")["connected_clients"]
            report = run(
                LoadRun(**{"scenario": scenario, "url": server.url, "seconds": 1.0, "drain_seconds": 10} | run_options)
            )
            assert client.keys("redisq:load:*") == []
            assert client.info("clients")["connected_clients"] <= clients
        return report

    return briefly


def when_pushing(client: redis.Redis) -> None:
    """Wait until a run that is being started has sent some messages."""
    client.config_resetstat()
    eventually(lambda: client.info("commandstats").get("cmdstat_rpush", {}).get("calls", 0) > 100, 30)


@pytest.fixture
def saboteur() -> Callable[[str], str]:
    """The path of a locustfile of ours that breaks something."""
    return lambda name: str(Path(__file__).parent / "locustfiles" / f"{name}.py")
