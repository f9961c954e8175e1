"""The law of liveness over literal histories: deaf, unlucky, and alive. Times are in seconds."""

from __future__ import annotations

import pytest

from pytest_redisq.check import AnomalyKind, Contract, Verdict, check
from pytest_redisq.history import FaultRecord, History, Quiescence
from pytest_redisq.model import Kind, Op, Outcome
from pytest_redisq.report import explain
from tests.check.literals import op

SECOND_NS = 10**9
RESTART = tuple(
    FaultRecord(fault="restart:server@2", words=words, at_ns=at * SECOND_NS, struck=1)
    for at, words in enumerate(["the server was shut down", "the server was started again"], start=1)
)


def killed(name: str) -> FaultRecord:
    return FaultRecord(fault="kill:consumer@2", words=f"{name} was to die", at_ns=SECOND_NS, struck=1, killed=(name,))


def act(kind: Kind, actor: str, start: float, stop: float | None, *sequences: int, **rest: object) -> Op:
    stop_ns = None if stop is None else int(stop * SECOND_NS)
    return op(kind, actor, int(start * SECOND_NS), stop_ns, *sequences, **rest)  # type: ignore[arg-type]


def put(at: float, sequence: int) -> Op:
    return act(Kind.ENQUEUE, "producer", at, at + 0.001, sequence)


def take(actor: str, at: float, *sequences: int) -> Op:
    return act(Kind.DEQUEUE, actor, at, at + 0.001, *sequences)


def asks(actor: str, start: float, stop: float) -> list[Op]:
    """Dequeues of half a second each, one after the other, that bring nothing."""
    return [
        act(Kind.DEQUEUE, actor, start + step / 2, start + step / 2 + 0.499) for step in range(int((stop - start) * 2))
    ]


def judge(*ops: Op, contract: str = "at-least-once, live", faults: tuple[FaultRecord, ...] = RESTART) -> Verdict:
    end = Quiescence(at_ns=max(each.ended_ns or each.invoked_ns for each in ops))
    return check(History.of(ops, end, faults=faults), Contract.parse(contract))


#: Two consumers that took a message each before the restart.
BEFORE = [put(0.1, 0), put(0.1, 1), take("one", 0.2, 0), take("two", 0.2, 1)]


def test_consumers_that_take_again_are_live() -> None:
    verdict = judge(*BEFORE, put(3, 2), put(3, 3), take("one", 4, 2), take("two", 5, 3))
    assert verdict.outcome == "pass"


def test_a_consumer_that_leaves_what_lies_there_is_deaf() -> None:
    """Consumer two asks for 11 seconds. Consumer one, which took a message again, holds back meanwhile."""
    ops = [*BEFORE, put(3, 2), take("one", 3.5, 2), put(4, 3), *asks("two", 2, 15), take("one", 15.5, 3)]
    verdict = judge(*ops)
    assert (verdict.outcome, verdict.counts[AnomalyKind.DEAF]) == ("fail", 1)
    (anomaly,) = verdict.anomalies
    assert (anomaly.reader, anomaly.where) == ("two", "")
    assert anomaly.last_seen is not None
    assert anomaly.last_seen.actor == "two"
    assert "two: took nothing" in explain(verdict)
    assert "asked 26 times" in explain(verdict)
    assert judge(*ops, contract="at-least-once, live=30s").outcome == "unknown"
    assert judge(*ops, contract="at-least-once").outcome == "pass"


def test_a_call_that_never_comes_back_is_deaf() -> None:
    hangs = act(Kind.DEQUEUE, "two", 0.9, None, outcome=Outcome.INFO)
    verdict = judge(*BEFORE, put(3, 2), take("one", 3.5, 2), put(4, 3), hangs, take("one", 20, 3))
    assert verdict.counts[AnomalyKind.DEAF] == 1
    assert "its last call never came back" in verdict.anomalies[-1].words


def test_errors_that_a_deaf_consumer_met_are_told() -> None:
    failed = [
        act(Kind.DEQUEUE, "two", 3 + step / 5, 3 + step / 5 + 0.01, outcome=Outcome.FAIL, error="NOGROUP")
        for step in range(60)
    ]
    verdict = judge(*BEFORE, put(3, 2), take("one", 3.5, 2), put(4, 3), *failed, take("one", 20, 3))
    assert verdict.counts[AnomalyKind.DEAF] == 1
    assert "the last with 'NOGROUP'" in verdict.anomalies[-1].words


def test_a_consumer_beside_others_that_take_all_may_be_unlucky() -> None:
    others = [each for at in range(3, 16) for each in (put(at, at), take("one", at + 0.5, at))]
    verdict = judge(*BEFORE, *others, *asks("two", 2, 16))
    assert verdict.outcome == "unknown"
    assert "it may be deaf, or only have had no luck" in verdict.not_judged[AnomalyKind.DEAF]


def test_a_message_that_a_dead_consumer_holds_is_not_there() -> None:
    """It comes back after 20 seconds, when its lease has run out, and the surviving consumer takes it."""
    holder = act(Kind.DEQUEUE, "dead", 0.5, None, outcome=Outcome.INFO)
    ops = [*BEFORE, put(0.4, 2), holder, *asks("one", 0.5, 20), take("one", 21, 2)]
    verdict = judge(*ops, faults=(killed("dead"),))
    assert verdict.counts[AnomalyKind.DEAF] == 0


def test_time_at_work_is_no_time_of_asking() -> None:
    """Consumer two works for 15 seconds on a message from before the restart, while another message waits."""
    verdict = judge(*BEFORE, put(3, 2), put(3, 3), take("one", 3.5, 2), take("two", 15, 3))
    assert verdict.outcome == "pass"


def test_a_consumer_to_which_nothing_was_offered_is_not_judged() -> None:
    verdict = judge(*BEFORE, *asks("one", 2, 15), *asks("two", 2, 15))
    assert verdict.outcome == "unknown"
    assert "no message was there for one" in verdict.not_judged[AnomalyKind.DEAF]


def test_a_message_that_an_unknown_dequeue_may_have_taken_proves_nothing() -> None:
    unknown = act(Kind.DEQUEUE, "one", 4, 5, outcome=Outcome.INFO)
    verdict = judge(*BEFORE, put(3, 2), take("one", 3.5, 2), put(4, 3), unknown, *asks("two", 2, 15))
    assert verdict.counts[AnomalyKind.DEAF] == 0


def test_killed_and_later_consumers_are_not_asked() -> None:
    ops = [*BEFORE, put(3, 2), take("one", 3.5, 2), put(4, 3), *asks("three", 3, 15), take("one", 16, 3)]
    verdict = judge(*ops, faults=(killed("two"),))
    assert verdict.outcome == "pass"


def test_a_fault_that_another_one_follows_at_once_is_judged_with_it() -> None:
    second = FaultRecord(fault="drop:connections@3", words="2 connections", at_ns=3 * SECOND_NS, struck=2)
    rest = [put(4, 2), put(4, 3), take("one", 5, 2), take("two", 5, 3), *asks("one", 2, 3), *asks("two", 2, 3)]
    assert judge(*BEFORE, *rest, faults=(*RESTART, second)).outcome == "pass"


def test_each_reader_of_a_fan_out_is_owed_each_message() -> None:
    ops = [*BEFORE[:2], take("one", 0.2, 0, 1), take("two", 0.2, 0, 1), put(3, 2), take("one", 3.5, 2)]
    verdict = judge(*ops, *asks("two", 2, 15), contract="fan-out, live")
    assert verdict.counts[AnomalyKind.DEAF] == 1
    assert judge(*ops, take("two", 5, 2), contract="fan-out, live").counts[AnomalyKind.DEAF] == 0


def test_without_a_fault_there_is_nothing_to_judge() -> None:
    verdict = judge(*BEFORE, faults=())
    assert (verdict.outcome, verdict.not_judged[AnomalyKind.DEAF]) == ("unknown", "no fault struck")


@pytest.mark.parametrize("contract", ["at-least-once, live", "at-least-once, live=30s", "fan-out, live=0.5s"])
def test_the_time_of_a_contract_is_kept_in_its_text(contract: str) -> None:
    assert str(Contract.parse(contract)) == contract
