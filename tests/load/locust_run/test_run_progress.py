"""The progress lines of a run: losses are shown as soon as they are visible, and never falsely."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap64

from pytest_redisq.load.codec import MAX_SEQUENCE, key_of
from pytest_redisq.load.deliveries import KeyMultiset, Received
from pytest_redisq.load.locust_process import LoadReport, LoadRun, RunningLoad, under_way
from pytest_redisq.load.locust_run.run_progress import ProgressSample, RunProgress, in_flight, lost
from pytest_redisq.load.scenarios import ListDrain
from pytest_redisq.servers import Server
from tests.load.conftest import ASSIGNMENT

#: For two seconds more than consumers can take.
BURST = "0:100,1:100,1:100000,3:100000,3:100"
SEQUENCES = st.integers(0, 20) | st.integers(MAX_SEQUENCE - 5, MAX_SEQUENCE - 1)
KEYS = st.sets(st.builds(key_of, st.integers(0, 3) | st.just(2**31), SEQUENCES))


@given(KEYS)
def test_gaps_are_below_the_last_of_a_producer_that_came(keys: set[int]) -> None:
    highest = {key >> 32: max(each for each in keys if each >> 32 == key >> 32) for key in keys}
    expected = sum(top % MAX_SEQUENCE + 1 for top in highest.values()) - len(keys)
    assert Received(delivered=KeyMultiset(once=BitMap64(keys))).gaps() == expected


def test_what_is_held_or_refused_or_trimmed_or_was_sent_only_now_is_not_lost() -> None:
    before = ProgressSample(0.0, sent=100, held=30, gaps=[9, 4])
    assert lost(before, ProgressSample(5.0, sent=500, taken=70)) == 13
    assert lost(before, ProgressSample(5.0, sent=500, taken=60)) == 23
    assert lost(before, ProgressSample(5.0, sent=500, taken=60, refused=5)) == 5 + 4
    assert lost(before, ProgressSample(5.0, sent=500, taken=60, trimmed=5)) == 5 + 4
    assert lost(before, ProgressSample(5.0, sent=500, taken=100, gaps=[10, 4])) == 13
    assert in_flight(before, ProgressSample(5.0, sent=500, taken=60, held=400)) == 30


def test_each_of_several_groups_is_owed_every_message() -> None:
    assert lost(ProgressSample(0.0, sent=100, held=30), ProgressSample(5.0, sent=100, taken=165, copies=2)) == 5
    assert lost(ProgressSample(0.0, sent=100), ProgressSample(5.0, sent=100, copies=0)) == 0


def test_nothing_is_said_of_what_a_silent_server_may_hold() -> None:
    assert lost(ProgressSample(0.0, sent=100, held=None), ProgressSample(5.0, sent=100)) == 0


class _EnoughError(Exception):
    """Ends the watching."""


@pytest.mark.parametrize(("late", "told"), [(0.0, "lost so far 100"), (3.0, "lost so far 0")])
def test_what_had_been_inside_when_a_process_told_is_not_lost(
    server: Server, monkeypatch: pytest.MonkeyPatch, late: float, told: str
) -> None:
    """A hundred messages were in the list at the report, which is as old as may be; by now they have been taken."""
    report = {"sent": 1000, "refused": 0, "received": 900, "taken": 900, "gaps": [], "connecting": 0}
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            raise _EnoughError

    monkeypatch.setattr("gevent.sleep", lambda _: None)
    nothing = SimpleNamespace(get_current_response_time_percentile=lambda _: None)
    stats = SimpleNamespace(total=nothing, num_failures=0)
    with server.client() as client, pytest.raises(_EnoughError):
        RunProgress(
            ListDrain(), ASSIGNMENT, client, stats=stats, progress=lambda: [report], late=late, tell=tell
        ).go_on()
    assert told in lines[1]


def losses(running: RunningLoad) -> Iterator[int]:
    """The number of lost messages in each line of progress."""
    assert running.process.stdout is not None
    for line in running.process.stdout:
        if told := re.search(r"lost so far ([\d,]+)", line):
            yield int(told[1].replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "load_options"), [("dollar", {}), ("two_drainers", {}), ("skipper", {"pipeline": 100, "processes": 2})]
)
def test_a_loss_is_told_while_the_run_goes_on(
    server: Server, saboteur: Callable[[str], str], name: str, load_options: dict[str, Any]
) -> None:
    with under_way(
        LoadRun(scenario=saboteur(name), url=server.url, seconds=60, **load_options), output=subprocess.PIPE
    ) as run:
        told = next(number for number in losses(run) if number)
        run.stop()
        report: LoadReport = run.wait()
    assert report.exit_code == 1
    assert 0 < told <= report.counts["lost"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "load_options"),
    [
        ("xadd-burst", {"rate": BURST, "pipeline": 100}),
        ("xadd-burst", {"rate": BURST, "pipeline": 100, "processes": 2}),
        ("drain", {"rate": BURST, "pipeline": 100, "processes": 2}),
    ],
)
def test_nothing_is_told_to_be_lost_where_nothing_is(
    server: Server, scenario: str, load_options: dict[str, Any]
) -> None:
    """Not where a backlog shrinks, nor where processes tell late."""
    with under_way(
        LoadRun(scenario=scenario, url=server.url, seconds=60, **load_options), output=subprocess.PIPE
    ) as run:
        told = list(islice(losses(run), 3))
        run.stop()
        report = run.wait()
    assert (report.exit_code, report.counts) == (3, {})  # interrupted, and nothing is wrong
    assert told == [0] * 3


@pytest.mark.slow
def test_what_a_group_is_far_behind_with_is_not_lost_and_told_while_it_is_drained(server: Server) -> None:
    load = LoadRun(scenario="xadd-group", url=server.url, seconds=60, producers=40, consumers=1, pipeline=100)
    with under_way(load, output=subprocess.PIPE) as run:  # and killed: to drain it would take minutes
        assert list(islice(losses(run), 3)) == [0] * 3
        run.stop()
        assert run.process.stdout is not None
        assert any(re.match(r"draining: [\d,]+ to go", line) for line in run.process.stdout)


@pytest.mark.slow
def test_of_a_queue_of_ones_own_nothing_is_told_that_nobody_knows(server: Server) -> None:
    """Messages in the queue look like lost ones, since the queue is not asked before the end."""
    load = LoadRun(scenario="own-queue", url=server.url, seconds=60, producers=20, consumers=1)
    with under_way(load, output=subprocess.PIPE) as run:
        assert run.process.stdout is not None
        lines = list(islice((line for line in run.process.stdout if "messages/s" in line), 2))
    assert not any(word in line for line in lines for word in ("depth", "in flight", "lost so far"))
