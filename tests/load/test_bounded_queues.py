"""Under `bounded` the messages that a user's own queue trimmed are excused under load, and no others."""

from __future__ import annotations

import threading

import pytest
from pyroaring import BitMap64

from pytest_redisq.load.codec import key_of
from pytest_redisq.load.locust_process import LoadReport, LoadRun, run
from pytest_redisq.load.newest_puts import NewestPuts
from pytest_redisq.servers import Server
from tests.table.rows import ROOT


@pytest.fixture(autouse=True)
def _empty(server: Server) -> None:
    with server.client() as client:
        client.flushall()


def played(
    server: Server,
    patch: pytest.MonkeyPatch,
    queue: str,
    contract: str = "at-least-once, bounded",
    **options: object,
) -> LoadReport:
    patch.setenv("TABLE_QUEUE", queue)
    patch.setenv("TABLE_CONTRACT", contract)
    patch.setenv("PYTHONPATH", str(ROOT))
    file = str(ROOT / "tests" / "load" / "locustfiles" / "from_table.py")
    load = {"scenario": file, "url": server.url, "own_server": True, "seconds": 1.0, "drain_seconds": 1.5}
    return run(LoadRun(**load | options))


def test_each_message_was_delivered_or_trimmed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other queues with bounds are in tests/table."""
    report = played(server, monkeypatch, "tests.table.bounded:CappedList")
    assert set(report.counts) == {"trimmed"}, report.output
    assert report.told["verdict"]["totals"]["delivered"] + report.counts["trimmed"] == report.figures["attempted"]
    assert 'under "bounded" they count as trimmed' in report.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("queue", "contract"),
    [
        ("CappedListThatForgets", "at-least-once, bounded"),
        ("CappedStreamThatForgets", "at-least-once, bounded"),
        ("CappedReaderThatForgets", "fan-out, bounded"),
    ],
)
def test_what_a_consumer_took_and_forgot_is_not_excused(
    server: Server, monkeypatch: pytest.MonkeyPatch, queue: str, contract: str
) -> None:
    report = played(server, monkeypatch, f"tests.table.bounded:{queue}", contract)
    assert report.outcome == "unknown", report.output
    reasons = report.told["verdict"]["reasons"]
    assert sum(reason.startswith("a consumer was handed messages (") for reason in reasons) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("trims", "outcome"), [(True, "unknown"), (False, "fail")])
def test_trims_of_another_client_excuse_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, trims: bool, outcome: str
) -> None:
    """The queue itself trims nothing, and drops messages."""
    over = threading.Event()

    def trim() -> None:
        with server.client() as client:
            while trims and not over.wait(0.05):
                client.ltrim("another list", 0, 9)

    thread = threading.Thread(target=trim)
    thread.start()
    try:
        report = played(server, monkeypatch, "tests.table.saboteur_lists:DropsEveryThird", shared_server=True)
    finally:
        over.set()
        thread.join()
    assert report.outcome == outcome, report.output
    doubts = [reason for reason in report.told["verdict"]["reasons"] if "and no worker was seen to do it" in reason]
    assert bool(doubts) is trims


@pytest.mark.parametrize(
    ("keeps", "puts", "older"),
    [
        (1, {0: [(0, 0, 1), (1, 2, 3), (2, 4, 5)]}, {0: [0, 1]}),
        (2, {0: [(0, 0, 1), (1, 2, 3), (2, 4, 5)]}, {0: [0]}),
        (1, {0: [(0, 0, 1)], 1: [(0, 2, 3)]}, {0: [0]}),
        (1, {0: [(0, 0, 3)], 1: [(0, 2, 4)]}, {0: [0], 1: [0]}),
        (3, {0: [(0, 0, 1), (1, 2, 3)]}, {}),
        (2, {0: [(number, number * 10, number * 10 + 5) for number in range(9)]}, {0: [*range(7)]}),
    ],
    ids=["all but one", "all but two", "of two producers", "at the same time", "fewer than the bound", "many"],
)
def test_only_what_is_older_than_the_bound_may_be_trimmed(
    keeps: int, puts: dict[int, list[tuple[int, int, int]]], older: dict[int, list[int]]
) -> None:
    newest, other = NewestPuts(keeps), NewestPuts(keeps)
    for producer, times in puts.items():
        for time in times:
            (other if producer else newest).add(producer, *time)
    newest.merge(NewestPuts.load(other.dump()))
    attempted = BitMap64(key_of(producer, number) for producer, times in puts.items() for number, *_ in times)
    assert newest.older(attempted) == BitMap64(key_of(each, number) for each in older for number in older[each])
