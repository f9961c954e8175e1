"""2,000 runs of correct patterns over seven kinds of workers: no false alarm. `make nightly` has them."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_redisq.endpoint.jobs import WORKERS
from pytest_redisq.runner import Command
from pytest_redisq.servers import Server
from tests.table.rows import Row, tried
from tests.table.twins import TWINS

#: The kinds of workers of a run ("process" is one of the others by another name); ALARM_RUNS: how many runs.
KINDS = tuple(kind for kind in WORKERS if kind != "process")
RUNS_PER_KIND = -(-int(os.environ.get("ALARM_RUNS", "2000")) // len(KINDS))
#: External commands and actors of an exploration are tried beside them, so many times each.
OTHERS = {"command": min(30, RUNS_PER_KIND), "schedule": min(100, RUNS_PER_KIND)}

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1_800)]


def rows_for(kind: str) -> list[Row]:
    """The patterns that workers of this kind can play, with what is to be played."""
    if kind == "command":
        program = str(Path(__file__).parents[1] / "runner" / "sample_queues.py")
        pair = tuple(Command([sys.executable, program, verb, "{url}"]) for verb in ("produce", "consume"))
        return [Row(pair, "at-least-once", run={"messages": 10})]
    if kind == "schedule":
        return [row for row in TWINS if "explore" in row.drivers]
    return [row for row in TWINS if row.is_async is (kind == "asyncio")]


def options(row: Row, kind: str, seed: int) -> dict[str, Any]:
    """Those of the row, with other sizes in each round."""
    workers = {} if kind == "command" else {"workers": kind}
    sizes = {"producers": 1 + seed % 3, "consumers": 1 + seed % 2, "messages": 20 + seed % 30, "seed": seed}
    unkilled = {"faults": ()} if kind == "executor" else {}  # it breaks as a whole when one of its processes dies
    return {**sizes, **row.run, **workers, **unkilled}


def test_the_kinds_of_workers_are_seven() -> None:
    assert len(KINDS) == 7


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_correct_patterns_raise_no_alarm(server: Server, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    alarms = []
    for seed, row in zip(range(OTHERS.get(kind, RUNS_PER_KIND)), itertools.cycle(rows_for(kind)), strict=False):
        with server.client() as client:
            client.flushall()
        driver = "explore" if kind == "schedule" else "run"
        played = Row(
            row.queue,
            row.contract,
            run=options(row, kind, seed),
            # Three of them have a fault: one alone may not strike, and then nothing is shown.
            explore={**row.explore, "schedules": 5, "seed": seed},
        )
        found = tried(played, driver, server, monkeypatch)
        if found != ("pass", set()):
            alarms.append((seed, row.name, found))
    assert not alarms
