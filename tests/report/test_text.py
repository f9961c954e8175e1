"""The text of a verdict."""

from __future__ import annotations

from syrupy.assertion import SnapshotAssertion

from pytest_redisq.check import LAWS, AnomalyKind, Contract, Verdict
from pytest_redisq.model import Message, Op, Outcome
from pytest_redisq.report import describe, explain, verdict_data
from pytest_redisq.report.text import HINTS
from tests.check.literals import ack, get, judge, put, quiet


def test_a_pass_is_short(snapshot: SnapshotAssertion) -> None:
    assert explain(judge(put(0, 0), get(10, 0), ack(20, 0))) == snapshot


def test_a_failure_shows_what_when_who_and_what_next(snapshot: SnapshotAssertion) -> None:
    died = get(900, outcome=Outcome.INFO, error="killed")
    ops = (*(put(10 * each, each) for each in range(8)), get(500, 0), get(510, 0), get(520, 9), died)
    assert explain(judge(*ops, contract="effectively-once")) == snapshot


def test_ids_readers_and_notes_are_shown(snapshot: SnapshotAssertion) -> None:
    ops = (
        get(0, actor="one"),
        *(put(10 * each, each, ids=(f"{each}-1",)) for each in range(1, 4)),
        get(100, 1, actor="one", ids=("1-1",)),
        get(110, 3, actor="one", ids=("3-1",)),
    )
    assert explain(judge(*ops, contract="fan-out", end=quiet(notes=("one fault was struck",)))) == snapshot


def test_what_cannot_be_told_is_said_with_its_reasons(snapshot: SnapshotAssertion) -> None:
    assert explain(judge(put(0, 0), end=quiet(drained=False))) == snapshot


def test_an_op_with_many_messages_is_cut_short() -> None:
    batch = get(1_500, *range(9), ids=tuple(f"{each}-0" for each in range(9)))
    assert describe(batch) == (
        "dequeue of 0/0, 0/1, 0/2, 0/3 and 5 more (id 0-0, 1-0, 2-0, 3-0 and 5 more) by consumer, "
        "ok, invoked at 0.000002 s, 0.000 ms long"
    )


def test_an_op_that_never_ended_says_so() -> None:
    cut = Op(actor="c", kind=get(0).kind, outcome=Outcome.INFO, messages=(Message(1, 2),), invoked_ns=0, ended_ns=None)
    assert describe(cut) == "dequeue of 1/2 by c, invoked at 0.000000 s and never ended"


def test_hints_are_about_what_can_break_a_contract() -> None:
    assert all(LAWS[kind].breaks for kind in HINTS)
    assert AnomalyKind.RECOVERED not in HINTS


def test_what_was_not_judged_is_named_and_where_it_is() -> None:
    contract = Contract.parse("effectively-once")
    counts = dict.fromkeys(AnomalyKind, 0)
    verdict = Verdict(
        contract=contract, outcome="unknown", counts=counts, not_judged={AnomalyKind.CLONED: "no ids were recorded"}
    )
    text = explain(verdict)
    assert "Not judged:\n  - cloned: no ids were recorded" in text
    assert "redisq.run or redisq.explore" in text
    assert verdict_data(verdict)["not_judged"] == {"cloned": "no ids were recorded"}
