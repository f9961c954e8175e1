"""A pass rests on evidence: nothing acknowledged, nothing delivered or a fault that struck nothing is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_redisq.check import Contract, Verdict, check
from pytest_redisq.history import FaultRecord, History, read_history, write_history
from pytest_redisq.model import Op, Outcome
from tests.check.literals import get, judge, put, quiet

CONTRACTS = ["at-most-once", "at-least-once", "effectively-once"]
STRUCK = FaultRecord(fault="drop:connections@1", words="2 connections of workers were closed", at_ns=7, struck=2)
VOID = FaultRecord(fault="drop:connections@1", words="0 connections of workers were closed", at_ns=7)
MISSED = FaultRecord(fault="kill:consumer@90", words="1 messages were received")


def _judged(*faults: FaultRecord, ops: tuple[Op, ...] = (put(0, 0), get(10, 0))) -> Verdict:
    return check(History.of(ops, quiet(), faults=faults), Contract.parse("at-least-once"))


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_run_whose_enqueues_all_failed_is_unknown(contract: str) -> None:
    refused = [put(10 * n, n, outcome=Outcome.FAIL, error="ResponseError: WRONGTYPE") for n in range(4)]
    verdict = judge(*refused, get(60), contract=contract)
    assert verdict.outcome == "unknown"
    assert (
        str(verdict) == f"{contract} unknown: no message was acknowledged and none was delivered, so nothing was tried"
    )
    assert [error._asdict() for error in verdict.errors] == [
        {"operation": "enqueue", "text": "ResponseError: WRONGTYPE", "times": 4}
    ]


@pytest.mark.parametrize("contract", ["at-least-once", "effectively-once", "fan-out"])
def test_a_run_without_an_acknowledged_message_is_unknown(contract: str) -> None:
    """No contract can find a loss of such a queue: no message had to arrive."""
    verdict = judge(put(0, 0, outcome=Outcome.INFO), get(10, 0), contract=contract)
    assert (verdict.outcome, verdict.reasons) == (
        "unknown",
        ("no message was acknowledged by the queue, so none had to arrive",),
    )


def test_at_most_once_with_no_delivery_is_unknown() -> None:
    verdict = judge(put(0, 0), get(10), contract="at-most-once")
    assert (verdict.outcome, verdict.reasons) == ("unknown", ("no message was delivered, so nothing was tried",))
    assert judge(put(0, 0), put(5, 1), get(20, 0), contract="at-most-once").outcome == "pass"


def test_a_fault_that_struck_nothing_makes_the_verdict_unknown() -> None:
    assert _judged(STRUCK).outcome == "pass"
    assert _judged(VOID).reasons == ("drop:connections@1 struck nothing: 0 connections of workers were closed",)
    assert _judged(STRUCK, MISSED).reasons == ("kill:consumer@90 never struck: 1 messages were received",)
    assert _judged(VOID).outcome == _judged(STRUCK, MISSED).outcome == "unknown"


def test_a_void_fault_hides_no_failure() -> None:
    assert _judged(VOID, ops=(put(0, 0), put(5, 1), get(20, 0))).outcome == "fail"


def test_a_pass_says_on_one_line_what_it_rests_on() -> None:
    twice = _judged(STRUCK, ops=(put(0, 0), put(5, 1), get(20, 0), get(30, 1), get(40, 1)))
    assert str(twice) == (
        "at-least-once holds: 2 messages acknowledged, 3 delivered, 1 of them again; "
        "drop:connections@1 (2 connections of workers were closed)"
    )
    assert str(_judged()) == "at-least-once holds: 1 messages acknowledged, 1 delivered; no faults"


def test_a_history_file_carries_its_faults(tmp_path: Path) -> None:
    """So that `redisq check` gives the verdict of the run."""
    path = tmp_path / "run.jsonl"
    write_history(History.of([put(0, 0), get(10, 0)], quiet(), faults=[STRUCK, VOID, MISSED]), path)
    read = read_history(path)
    assert read.faults == (STRUCK, VOID, MISSED)
    assert check(read, Contract.parse("at-least-once")).outcome == "unknown"
    assert History.merge(History.of([]), read).faults == read.faults
