"""A queue of the user's own under load means what it means in a run: the same forms, the same outcomes."""

from __future__ import annotations

from collections.abc import Callable

from pytest_redisq.load.locust_process import LoadReport

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
