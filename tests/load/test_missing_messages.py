"""What a load run says of messages that are missing at its end: they are looked for in all keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_redisq.load.locust_process import LoadReport
from pytest_redisq.servers import Server

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _empty(server: Server) -> None:
    """No test finds what another one's saboteur left."""
    with server.client() as client:
        client.flushall()


Play = Callable[..., LoadReport]
Saboteur = Callable[[str], str]


@pytest.mark.parametrize(
    ("queue", "place"),
    [
        pytest.param("AbandonedList", "in the list doing:", marks=pytest.mark.nightly),
        ("AbandonedGroup", "in the stream orders, pending to consumer "),
        pytest.param("AbandonedSet", "in the zset running", marks=pytest.mark.nightly),
    ],
)
def test_what_nothing_recovers_is_stuck_where_it_lies(
    play: Play, saboteur: Saboteur, monkeypatch: pytest.MonkeyPatch, queue: str, place: str
) -> None:
    monkeypatch.setenv("QUEUE", queue)
    report = play(saboteur("newcomers"), own_server=True, drain_seconds=1, rate="500")
    assert report.exit_code == 1
    assert report.counts.keys() == {"stuck"}
    assert place in report.output


@pytest.mark.parametrize(
    "queue",
    [
        pytest.param("MovedList", marks=pytest.mark.nightly),
        pytest.param("AsyncGroup", marks=pytest.mark.nightly),
        "LeasedSet",
    ],
)
def test_what_a_lease_brings_back_is_waited_for(
    play: Play, saboteur: Saboteur, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    monkeypatch.setenv("QUEUE", queue)
    report = play(saboteur("newcomers"), own_server=True, drain_seconds=1, rate="500")
    assert (report.exit_code, dict(report.counts)) == (0, {}), report.output
