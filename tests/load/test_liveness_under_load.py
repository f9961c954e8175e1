"""A consumer that is deaf after a restart of the server is found under load, and a correct twin passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pytest_redisq.history import FaultRecord
from pytest_redisq.load.consumer_log import ConsumerLogs
from pytest_redisq.load.engine import Engine
from pytest_redisq.load.locust_process import LoadReport, LoadRun
from pytest_redisq.load.timed_faults import run_struck
from pytest_redisq.servers import Server, start
from tests.support import local

SECOND_NS = 10**9
RESTART = [FaultRecord(fault="restart:server@1s", at_ns=SECOND_NS * at, struck=1) for at in (1, 2)]


@pytest.fixture
def server() -> Iterator[Server]:
    """One that has what was written before a restart."""
    server = start(local(persistence="aof"))
    yield server
    server.stop()


def struck(scenario: str, server: Server, fault: str, engine: Engine = "epoll") -> LoadReport:
    load = LoadRun(scenario=scenario, url=server.url, seconds=4.5, rate="600", engine=engine)
    return run_struck(load, server, [fault])


@pytest.mark.slow
@pytest.mark.parametrize(("deaf", "outcome"), [("1", "fail"), ("", "pass")])
def test_a_deaf_consumer_is_named(
    server: Server, saboteur: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, deaf: str, outcome: str
) -> None:
    monkeypatch.setenv("DEAF", deaf)
    report = struck(saboteur("deaf"), server, "restart:server@1s")
    assert report.outcome == outcome, report.output
    assert report.counts.get("deaf", 0) == (1 if deaf else 0)
    if deaf:
        assert 'consumer-0: took nothing after "restart:server@1s"' in report.output


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "engine"), [("list", "epoll"), ("stream", "locust")])
@pytest.mark.parametrize(("deaf", "outcome"), [("1", "fail"), ("", "pass")])
def test_a_deaf_consumer_of_a_supplied_scenario_is_named(
    server: Server,
    saboteur: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    engine: str,
    deaf: str,
    outcome: str,
) -> None:
    monkeypatch.setenv("DEAF", deaf)
    monkeypatch.setenv("SCENARIO", scenario)
    report = struck(saboteur("deaf_supplied"), server, "restart:server@1s", engine=engine)
    assert report.outcome == outcome, report.output
    assert report.counts.get("deaf", 0) == (1 if deaf else 0)
    if deaf:
        assert 'consumer-0: took nothing after "restart:server@1s"' in report.output


def logs(*, one_takes: int, one_until: float, put: bool = True) -> ConsumerLogs:
    """Consumer one takes messages at a steady rate; consumer two asks from second 2.1 to 9 and takes none."""
    found = ConsumerLogs()
    one, two = found.open("one"), found.open("two")
    for log in (one, two):
        log.asks(SECOND_NS // 2)
        log.took(SECOND_NS // 2 + 1)
    for number in range(one_takes):
        at_ns = int(2 * SECOND_NS + number * (one_until - 2) * SECOND_NS / one_takes)
        one.asks(at_ns)
        one.took(at_ns + 1)
        found.count_taken(at_ns + 1)
    if put:
        found.count_put(int(2.5 * SECOND_NS))
    for at in range(21, 90):
        two.asks(at * SECOND_NS // 10)
        two.ended((at + 1) * SECOND_NS // 10)
    return ConsumerLogs.load(found.dump(9 * SECOND_NS))


def test_bad_luck_is_told_from_deafness_by_what_others_took() -> None:
    one, two = logs(one_takes=700, one_until=9).recoveries(RESTART)
    assert (one.took, one.waited_seconds) == (True, 0)
    assert (two.consumer, two.took, round(two.ignored_seconds, 1)) == ("two", False, 6.9)
    _, unlucky = logs(one_takes=50, one_until=9).recoveries(RESTART)
    assert (round(unlucky.waited_seconds, 1), unlucky.ignored_seconds) == (6.9, 0)


def test_messages_that_no_consumer_takes_prove_deafness() -> None:
    _, two = logs(one_takes=0, one_until=9).recoveries(RESTART)
    assert round(two.ignored_seconds, 1) == 6.5  # since the message was put
    _, nothing_there = logs(one_takes=0, one_until=9, put=False).recoveries(RESTART)
    assert nothing_there.ignored_seconds == 0
