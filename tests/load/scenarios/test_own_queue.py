"""A queue of the user's own under load means what it means in a run: the same forms, the same outcomes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_redisq.load.locust_process import LoadError, LoadReport

Play = Callable[..., LoadReport]
Saboteur = Callable[[str], str]


def test_a_queue_of_coroutine_functions_is_driven(play: Play, saboteur: Saboteur) -> None:
    report = play(saboteur("async_orders"))
    assert report.exit_code == 0, report.output
    assert report.outcome == "pass"


def test_an_error_reply_after_another_command_is_unknown(play: Play, saboteur: Saboteur) -> None:
    """It was a certain failure, and the message that came all the same broke the contract."""
    report = play(saboteur("refused_afterwards"))
    assert "false-fail" not in report.counts, report
    assert report.outcome == "pass", report.output
    assert report.counts.keys() <= {"recovered"}, report


def test_a_pair_of_functions_is_driven(play: Play, saboteur: Saboteur) -> None:
    report = play(saboteur("pair_of_functions"))
    assert report.outcome == "pass", report.output


@pytest.mark.slow
def test_exceptions_of_the_queues_code_are_told_once_by_type_and_line(play: Play, saboteur: Saboteur) -> None:
    report = play(saboteur("mistaken_put"))
    assert report.outcome == "unknown"
    put, get = sorted(report.told["raised"], key=lambda raised: -len(raised["type"]))
    assert (put["verb"], put["type"], put["place"]) == ("put", "AttributeError", "mistaken_put.py:18 in put")
    assert (get["verb"], get["type"], get["text"]) == ("get", "ValueError", "attempt 0")
    assert min(put["times"], get["times"]) > 10
    told = "put raised AttributeError: 'Orders' object has no attribute 'clent' (mistaken_put.py:18 in put)"
    assert report.output.count(f"ERROR in the queue's own code: {told}") == 1
    assert f"{put['times']:,} × put queue: {told}" in report.output
    assert report.told["stop_seconds"] < 5


@pytest.mark.slow
@pytest.mark.parametrize(("drops", "outcome"), [("", "pass"), ("1", "fail")])
def test_messages_that_the_queue_delays_are_waited_for(
    play: Play, saboteur: Saboteur, monkeypatch: pytest.MonkeyPatch, drops: str, outcome: str
) -> None:
    """They were called lost, since every consumer ended when its `get` came back empty."""
    monkeypatch.setenv("DROPS", drops)
    report = play(saboteur("delayed_orders"), rate="400", drain_seconds=3)
    assert report.outcome == outcome, report.output
    assert set(report.counts) == ({"lost"} if drops else set())


@pytest.mark.nightly
def test_a_backlog_behind_slow_consumers_is_waited_for_while_it_shrinks(play: Play, saboteur: Saboteur) -> None:
    """For longer than consumers have to end, and with `drain_seconds` far shorter than it takes."""
    report = play(saboteur("slow_workers"), rate="500", seconds=2, drain_seconds=2)
    assert report.outcome == "pass", report.output
    assert "draining: " in report.output


def test_external_commands_are_refused_in_words(play: Play, saboteur: Saboteur) -> None:
    with pytest.raises(LoadError, match="is an external command: a load run cannot drive it"):
        play(saboteur("external_commands"))
