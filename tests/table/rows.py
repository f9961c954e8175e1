"""How a row of the tables is tried: by a run, by an exploration, or under load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_redisq.check import AnomalyKind, Contract, Verdict
from pytest_redisq.explore import explore, queue_scenario
from pytest_redisq.load.locust_process import LoadRun
from pytest_redisq.load.locust_process import run as run_load
from pytest_redisq.runner import run
from pytest_redisq.servers import Server

_RUN: Mapping[str, Any] = {"producers": 2, "consumers": 2, "messages": 40, "settle_seconds": 0.6, "wait_seconds": 0.05}
_EXPLORE: Mapping[str, Any] = {"schedules": 60}
_LOAD: Mapping[str, Any] = {"seconds": 1.0, "drain_seconds": 1.5, "rate": "200"}
_SCENARIO = ("producers", "consumers", "messages")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A queue and its contract.

    * `drivers`: what it is tried by; the first of them in every run of the suite, all of them by `make nightly`.
    * `anomaly`: what the verdict has to call it if the queue is a saboteur.
    * `run`, `explore`, `load`: other options than the usual ones.
    """

    queue: Any = field(kw_only=False)
    contract: str = field(kw_only=False, default="at-least-once")
    anomaly: str = field(kw_only=False, default="")
    drivers: tuple[str, ...] = ("run", "explore", "load")
    run: Mapping[str, Any] = field(default_factory=dict)
    explore: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)
    #: Under load, where no ids are recorded, the contract that can be judged there.
    load_contract: str = ""

    @property
    def name(self) -> str:
        return str(getattr(self.queue, "__name__", None) or "pair")

    @property
    def is_async(self) -> bool:
        return self.name.startswith("Async")


def cases(rows: list[Row], *, all_drivers: bool = False) -> list[Any]:
    """The rows for `pytest.mark.parametrize("row", "driver")`: each once, or with the drivers other than its first."""
    return [
        pytest.param(row, driver, id=f"{row.name}-{driver}", marks=pytest.mark.nightly if all_drivers else ())
        for row in rows
        for driver in (row.drivers[1:] if all_drivers else row.drivers[:1])
    ]


def tried(row: Row, driver: str, server: Server, patch: pytest.MonkeyPatch) -> tuple[str, set[str]]:
    """The outcome, and the anomalies that break the contract."""
    match driver:
        case "run":
            return _run(row, server)
        case "explore":
            return _explored(row, server)
    return _loaded(row, server, patch)


def _run(row: Row, server: Server) -> tuple[str, set[str]]:
    workers = "asyncio" if row.is_async else "thread"
    verdict: Verdict = run(row.queue, at=server, server=server, **{"workers": workers, **_RUN, **row.run}).verdict(
        row.contract
    )
    return verdict.outcome, {str(kind) for kind in verdict.broken}


def _explored(row: Row, server: Server) -> tuple[str, set[str]]:
    options = {**_EXPLORE, **row.explore}
    scenario = {name: options.pop(name) for name in _SCENARIO if name in options}
    exploration = explore(queue_scenario(row.queue, row.contract, **scenario), url=server.url, **options)
    if exploration.failure is None:
        return exploration.outcome, set()
    text = str(exploration.failure.error).splitlines()[0]
    return "fail", {str(kind) for kind in AnomalyKind if f" {kind}" in text}


def _loaded(row: Row, server: Server, patch: pytest.MonkeyPatch) -> tuple[str, set[str]]:
    """The queue is found by its name in a process of Locust's."""
    patch.setenv("TABLE_QUEUE", f"{row.queue.__module__}:{row.queue.__name__}")
    promised = row.load_contract or row.contract
    patch.setenv("TABLE_CONTRACT", promised)
    patch.setenv("PYTHONPATH", str(ROOT))
    locustfile = str(ROOT / "tests" / "load" / "locustfiles" / "from_table.py")
    report = run_load(LoadRun(**{"scenario": locustfile, "url": server.url, "own_server": True, **_LOAD, **row.load}))
    contract = Contract.parse(promised)
    return report.outcome, {name for name in report.counts if contract.forbids(AnomalyKind(name))}
