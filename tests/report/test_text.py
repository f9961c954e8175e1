"""The text of a verdict."""

from __future__ import annotations

from typing import Any

from syrupy.assertion import SnapshotAssertion

from pytest_redisq.check import LAWS, AnomalyKind, Contract, Verdict
from pytest_redisq.history import FoundPlace, Search
from pytest_redisq.model import ACK_REFUSED, Message, Op, Outcome
from pytest_redisq.report import describe, explain, verdict_data
from pytest_redisq.report.hints import HINTS, hints
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


def advised(*ops: Op, contract: str = "at-least-once", search: Search | None = None, **end: Any) -> list[str]:
    return hints(judge(*ops, contract=contract, end=quiet(search=search, **end)))


NOWHERE = Search()


def in_key(*messages: Message, state: str = "", kind: str = "list") -> Search:
    return Search(places=(FoundPlace(key="doing:1", type=kind, messages=messages, state=state),))


def test_a_retry_is_blamed_only_where_a_reply_was_lost() -> None:
    twice = (put(0, 0), get(10, 0), get(20, 0))
    assert advised(*twice, contract="at-most-once") == []
    lost_reply = put(5, 1, outcome=Outcome.INFO)
    assert "a client that retries" in advised(*twice, lost_reply, contract="at-most-once")[0]


def test_a_lease_is_blamed_only_where_an_ack_was_refused() -> None:
    twice = (put(0, 0), get(10, 0), get(20, 0, actor="other"))
    refused = ack(30, 0, outcome=Outcome.FAIL, error=ACK_REFUSED)
    assert advised(*twice, refused, contract="at-most-once")[0].startswith("1 ack was refused (ack() returned False)")
    failed = ack(30, 0, outcome=Outcome.FAIL, error="WRONGTYPE")
    assert advised(*twice, failed, contract="at-most-once") == []


def test_popping_is_blamed_only_where_a_dequeue_had_no_reply() -> None:
    died = get(900, outcome=Outcome.INFO, error="killed")
    assert "1 dequeue ended without a reply" in advised(put(0, 0), died, search=NOWHERE)[0]
    assert advised(put(0, 0), put(1, 1), get(10, 1), search=NOWHERE) == []


def test_what_was_not_searched_for_is_not_said_to_be_gone() -> None:
    assert advised(put(0, 0), put(1, 1), get(10, 1)) == [
        "the server's keys were not searched for the lost messages: they may still be in one"
    ]


def test_a_stuck_message_is_told_by_its_place() -> None:
    (hint,) = advised(put(0, 0), pending=(Message(0, 0),), search=in_key(Message(0, 0)))
    assert hint == "no consumer takes, or gives back, what lies in the list doing:1"
    (hint,) = advised(
        put(0, 0), pending=(Message(0, 0),), search=in_key(Message(0, 0), state="pending to consumer c of group g")
    )
    assert hint.startswith("no consumer claims (XAUTOCLAIM) what lies in the list doing:1, pending to consumer c")


def test_an_early_ack_is_blamed_only_where_the_message_is_gone() -> None:
    held = (put(0, 0), put(1, 1), get(5, 1), ack(8, 1), get(10, 0))
    assert "since it is in no key" in advised(*held, search=NOWHERE)[0]
    done = in_key(Message(0, 0), kind="stream", state="where group g has no more to do with it: acknowledged")
    assert advised(*held, search=done) == [
        "the entry is in the stream, and its group no longer has it pending: acknowledge after the work"
    ]


def test_the_first_line_says_where_the_messages_lie() -> None:
    verdict = judge(put(0, 0), put(1, 1), get(5, 1), contract="at-least-once", end=quiet(search=NOWHERE))
    assert str(verdict) == "at-least-once broken: 1 lost (in no key)"
    stuck = quiet(search=in_key(Message(0, 0)), pending=(Message(0, 0),))
    assert str(judge(put(0, 0), contract="at-least-once", end=stuck)) == (
        "at-least-once broken: 1 stuck (in the list doing:1)"
    )
