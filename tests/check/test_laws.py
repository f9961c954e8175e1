"""The laws, over generated histories, against a slow oracle written straight from them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.check import AnomalyKind, Contract, check
from pytest_redisq.history import History
from pytest_redisq.model import Kind, Message, Op, Outcome
from tests.check import oracle
from tests.check.literals import quiet

MESSAGES = st.builds(Message, st.integers(0, 2), st.one_of(st.integers(0, 5), st.sampled_from([300, 10**13])))
TIMES = st.integers(0, 60)


@st.composite
def ops(draw: st.DrawFn) -> list[Op]:
    """Enqueues, dequeues and acks without any sense, so that every anomaly comes up."""
    history = []
    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from([Kind.ENQUEUE, Kind.ENQUEUE, Kind.DEQUEUE, Kind.DEQUEUE, Kind.ACK]))
        outcome = draw(st.sampled_from([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.FAIL, Outcome.INFO]))
        unknown = kind is Kind.DEQUEUE and outcome is not Outcome.OK
        messages = () if unknown else tuple(draw(st.lists(MESSAGES, min_size=1, max_size=3, unique=True)))
        invoked = draw(TIMES)
        actor = f"{kind}-{draw(st.integers(0, 1))}"
        ended = None if outcome is Outcome.INFO and draw(st.booleans()) else invoked + draw(st.integers(1, 20))
        history.append(
            Op(actor=actor, kind=kind, outcome=outcome, messages=messages, invoked_ns=invoked, ended_ns=ended)
        )
    return history


@settings(max_examples=150, deadline=None)
@given(ops(), st.lists(MESSAGES, max_size=2, unique=True))
def test_counts_agree_with_the_oracle(history: list[Op], pending: list[Message]) -> None:
    end = quiet(pending=tuple(pending))
    verdict = check(History.of(history, end), Contract.parse("at-least-once"))
    expected = oracle.shared(history, end)
    assert not [reason for reason in verdict.reasons if "crashed" in reason]
    assert {kind: verdict.counts[kind] for kind in expected} == expected


@settings(max_examples=150, deadline=None)
@given(ops())
def test_order_agrees_with_the_oracle(history: list[Op]) -> None:
    """Messages with absurd numbers are not judged for order, and the oracle is not asked about them."""
    sane = [op for op in history if all(message.sequence < 10**6 for message in op.messages)]
    verdict = check(History.of(sane, quiet()), Contract.parse("at-least-once, fifo"))
    found = {anomaly.message for anomaly in verdict.anomalies if anomaly.kind is AnomalyKind.REORDERED}
    assert found == oracle.reordered(sane)


@st.composite
def sequential_runs(draw: st.DrawFn) -> list[Op]:
    """Producers that enqueue one after the other, consumers that take in nearly the right order."""
    history, clock = [], 0
    for producer in range(draw(st.integers(1, 2))):
        clock = 0
        for sequence in range(6):
            clock += draw(st.integers(1, 5))
            sent = (Message(producer, sequence),)
            op = Op(
                actor=f"p{producer}",
                kind=Kind.ENQUEUE,
                outcome=Outcome.OK,
                messages=sent,
                invoked_ns=clock,
                ended_ns=clock + 2,
            )
            history.append(op)
            clock += 2
    for message in draw(st.permutations([op.messages for op in history])):
        invoked = draw(st.integers(30, 60))
        actor = f"c{draw(st.integers(0, 2))}"
        ended = invoked + draw(st.integers(1, 15))
        history.append(
            Op(actor=actor, kind=Kind.DEQUEUE, outcome=Outcome.OK, messages=message, invoked_ns=invoked, ended_ns=ended)
        )
    return history


@settings(max_examples=120, deadline=None)
@given(sequential_runs())
def test_order_of_sequential_producers_agrees_with_the_oracle(history: list[Op]) -> None:
    verdict = check(History.of(history, quiet()), Contract.parse("at-least-once, fifo"))
    assert {anomaly.message for anomaly in verdict.anomalies} == oracle.reordered(history)


@settings(max_examples=80, deadline=None)
@given(ops())
def test_the_verdict_does_not_depend_on_the_order_in_which_ops_were_recorded(history: list[Op]) -> None:
    contract = Contract.parse("at-least-once, fifo")
    one, other = (check(History.of(each, quiet()), contract) for each in (history, history[::-1]))
    assert (one.outcome, one.counts, one.totals) == (other.outcome, other.counts, other.totals)


@settings(max_examples=80, deadline=None)
@given(ops())
def test_short_of_quiescence_no_history_passes(history: list[Op]) -> None:
    for text in ("at-most-once", "at-least-once, fifo", "fan-out"):
        verdict = check(History.of(history), Contract.parse(text))
        assert verdict.outcome != "pass"
        assert not any(
            verdict.counts[kind] for kind in (AnomalyKind.LOST, AnomalyKind.INDETERMINATE, AnomalyKind.STUCK)
        )
