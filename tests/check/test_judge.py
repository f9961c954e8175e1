"""The judge over literal histories: each anomaly found, and its sound twin passed."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from pytest_redisq.check import LAWS, Anomaly, AnomalyKind, Contract, Guarantee, Totals, Verdict, check
from pytest_redisq.history import History
from pytest_redisq.model import UNREADABLE, Kind, Message, Op, Outcome
from tests.check.literals import LATE_NS, ack, found, get, judge, none_but, op, put, quiet

SOUND = (put(0, 0), put(10, 1), get(20, 0), ack(26, 0), get(40, 1), ack(46, 1))


@pytest.mark.parametrize("guarantee", [guarantee for guarantee in Guarantee if guarantee is not Guarantee.FAN_OUT])
@pytest.mark.parametrize("order", ["", ", fifo"])
def test_a_sound_history_passes_every_contract_for_shared_messages(guarantee: Guarantee, order: str) -> None:
    verdict = judge(*SOUND, contract=guarantee + order)
    assert verdict == Verdict(
        contract=Contract(guarantee=guarantee, fifo=bool(order)),
        outcome="pass",
        counts=none_but(),
        totals=Totals(attempted=2, acknowledged=2, delivered=2, acked=2, unknown_dequeues=0),
    )


def test_what_is_no_contract_is_a_mistake_and_no_verdict() -> None:
    with pytest.raises(TypeError, match=r'None is no contract: give its name, as "at-least-once, fifo", or a Contract'):
        check(History.of(SOUND), None)  # type: ignore[arg-type]


def test_a_lost_message_is_named_with_the_op_that_last_saw_it() -> None:
    lost = put(10, 1)
    verdict = judge(put(0, 0), lost, get(20, 0))
    assert verdict == Verdict(
        contract=Contract(guarantee=Guarantee.AT_LEAST_ONCE),
        outcome="fail",
        counts=none_but(lost=1),
        totals=Totals(attempted=2, acknowledged=2, delivered=1, missing=1),
        anomalies=(
            Anomaly(
                kind=AnomalyKind.LOST,
                message=Message(0, 1),
                last_seen=lost,
                words="acknowledged, never delivered, and no longer in the queue",
            ),
        ),
    )


def test_an_unknown_dequeue_explains_one_missing_message_and_no_more() -> None:
    died = get(30, outcome=Outcome.INFO)
    assert found(judge(put(0, 0), put(10, 1), get(20, 0), died)) == {"indeterminate": 1}
    assert found(judge(put(0, 0), put(10, 1), died)) == {"indeterminate": 1, "lost": 1}


def test_an_unknown_dequeue_may_have_taken_as_many_as_the_largest_known() -> None:
    ops = (put(0, 0, 1, 2, 3), get(20, 0, 1), get(30, outcome=Outcome.INFO))
    assert found(judge(*ops)) == {"indeterminate": 2}


def test_what_a_consumer_held_when_it_ended_is_forgotten_if_it_is_nowhere_else() -> None:
    """Acknowledged before the work, it seems: the queue let go of it, and its worker died."""
    ops = (put(0, 0), put(10, 1), get(20, 0), ack(26, 0), get(40, 1, actor="doomed"))
    verdict = judge(*ops)
    assert (verdict.outcome, found(verdict)) == ("fail", {"forgotten": 1})
    assert [str(anomaly.message) for anomaly in verdict.anomalies] == [str(Message(0, 1))]
    assert judge(*ops, contract="effectively-once").outcome == "fail"
    assert judge(*ops, contract="at-most-once").outcome == "pass"
    assert judge(*ops, end=quiet(drained=False)).outcome == "unknown"


@pytest.mark.parametrize(
    "failure",
    [ack(50, 1, outcome=Outcome.FAIL), op(Kind.WORK, "consumer", 50, 50, 1, outcome=Outcome.FAIL)],
    ids=["its ack failed", "its work failed"],
)
def test_what_a_consumer_did_not_finish_is_forgotten(failure: Op) -> None:
    delivered = (put(0, 0), put(10, 1), get(20, 0), ack(26, 0), get(40, 1), failure)
    assert found(judge(*delivered, get(60, 0))) == {"forgotten": 1, "duplicated": 1, "cloned": 1}
    assert "forgotten" not in found(judge(*delivered, get(60, 1), ack(70, 1)))


def test_failed_work_is_forgotten_also_where_no_consumer_acknowledges() -> None:
    failure = op(Kind.WORK, "consumer", 50, 50, 1, outcome=Outcome.FAIL)
    assert found(judge(put(0, 1), get(20, 1), failure)) == {"forgotten": 1}
    assert "forgotten" not in found(judge(put(0, 1), get(20, 1), failure, get(60, 1)))


@pytest.mark.parametrize(
    "more",
    [
        [ack(50, 1)],
        [ack(50, 1, outcome=Outcome.INFO)],
        [get(60, 1), ack(70, 1)],
        [get(60, actor="doomed")],
        [op(Kind.DRAIN, "drain", 60, 65, 1)],
    ],
    ids=["acknowledged", "perhaps", "delivered again", "it lived on", "drained"],
)
def test_what_was_in_the_last_hands_is_not_forgotten_if_it_was(more: list[Op]) -> None:
    verdict = judge(put(0, 0), put(10, 1), get(20, 0), ack(26, 0), get(40, 1, actor="doomed"), *more)
    assert "forgotten" not in found(verdict)
    assert verdict.outcome == "pass"


def test_what_was_in_the_last_hands_and_is_pending_is_stuck_and_not_forgotten() -> None:
    end = quiet(pending=(Message(0, 1),))
    ops = (put(0, 0), put(10, 1), get(20, 0), ack(26, 0), get(40, 1, actor="doomed"))
    assert found(judge(*ops, end=end)) == {"stuck": 1}


def test_where_nobody_acknowledges_nothing_is_forgotten() -> None:
    assert judge(put(0, 0), put(10, 1), get(20, 0), get(40, 1, actor="doomed")).outcome == "pass"


def test_who_is_known_to_have_died_receiving_may_have_had_what_is_forgotten() -> None:
    died = get(60, actor="heir", outcome=Outcome.INFO)
    verdict = judge(put(0, 0), put(10, 1), get(20, 0), ack(26, 0), get(40, 1, actor="doomed"), died)
    assert (verdict.outcome, found(verdict)) == ("fail", {"indeterminate": 1})


def test_at_most_once_permits_what_vanished() -> None:
    assert judge(put(0, 0), put(10, 1), get(20, 0), contract="at-most-once").outcome == "pass"


def test_a_message_delivered_twice_breaks_at_most_once_alone() -> None:
    ops = (put(0, 0, ids=("1-0",)), get(10, 0, ids=("1-0",)), get(20, 0, ids=("1-0",)))
    outcomes = {
        name: judge(*ops, contract=name).outcome for name in ("at-most-once", "at-least-once", "effectively-once")
    }
    assert outcomes == {"at-most-once": "fail", "at-least-once": "pass", "effectively-once": "pass"}
    assert found(judge(*ops)) == {"duplicated": 1}


@pytest.mark.parametrize("ids", [((), ()), (("1-0",), ("2-0",)), (("1-0",), ())], ids=["none", "two", "one missing"])
def test_a_duplicate_that_its_id_does_not_give_away_breaks_effectively_once(ids: tuple[tuple[str, ...], ...]) -> None:
    ops = (put(0, 0, ids=("1-0",)), get(10, 0, ids=ids[0]), get(20, 0, ids=ids[1]))
    verdict = judge(*ops, contract="effectively-once")
    assert verdict.outcome == "fail"
    assert found(verdict) == {"duplicated": 1, "cloned": 1}


def test_a_message_that_nobody_sent_is_unexpected_even_if_its_number_is_absurd() -> None:
    verdict = judge(put(0, 0), get(10, 0), get(20, 10**15), get(30, 1, producer=10**12), contract="at-most-once, fifo")
    assert (verdict.outcome, found(verdict)) == ("fail", {"unexpected": 2})


def test_a_delivery_whose_enqueue_was_of_unknown_outcome_is_recovered() -> None:
    ops = (put(0, 0, outcome=Outcome.INFO), get(10, 0), put(20, 1), get(30, 1))
    verdict = judge(*ops, contract="effectively-once, fifo")
    assert (verdict.outcome, found(verdict)) == ("pass", {"recovered": 1})


def test_a_delivery_whose_enqueue_had_failed_for_certain_breaks_every_contract() -> None:
    verdict = judge(put(0, 0, outcome=Outcome.FAIL), get(10, 0), contract="at-most-once")
    assert (verdict.outcome, found(verdict)) == ("fail", {"false-fail": 1})


def test_an_unknown_enqueue_that_never_arrives_is_no_loss() -> None:
    assert judge(put(0, 0, outcome=Outcome.INFO), put(10, 1), get(20, 1)).outcome == "pass"


@pytest.mark.parametrize("delivered", [True, False])
def test_a_message_left_in_the_pending_list_is_stuck(delivered: bool) -> None:
    ops = (put(0, 0), get(10, 0)) if delivered else (put(0, 0),)
    verdict = judge(*ops, end=quiet(pending=(Message(0, 0),)))
    assert (verdict.outcome, found(verdict)) == ("fail", {"stuck": 1})


def test_an_acknowledged_message_that_is_still_inside_was_acknowledged_falsely() -> None:
    ops = (put(0, 0), get(10, 0), ack(20, 0))
    verdict = judge(*ops, end=quiet(pending=(Message(0, 0),)))
    assert (verdict.outcome, found(verdict)) == ("fail", {"false-ack": 1})


def test_an_acknowledged_message_that_comes_again_was_acknowledged_falsely() -> None:
    ids = ("1-0",)
    again = (put(0, 0, ids=ids), get(10, 0, ids=ids), ack(20, 0), get(30, 0, ids=ids))
    assert found(judge(*again)) == {"duplicated": 1, "false-ack": 1}
    claimed_meanwhile = (put(0, 0, ids=ids), get(10, 0, ids=ids), get(15, 0, ids=ids, actor="other"), ack(20, 0))
    assert found(judge(*claimed_meanwhile)) == {"duplicated": 1}


def test_an_ack_of_what_was_never_delivered_is_premature() -> None:
    ops = (put(0, 0), put(10, 1), get(20, 0), ack(30, 0), ack(40, 1))
    assert found(judge(*ops)) == {"lost": 1, "premature-ack": 1}


def test_a_body_under_the_id_of_another_message_has_a_wrong_id() -> None:
    ops = (put(0, 0, ids=("1-0",)), put(10, 1, ids=("2-0",)), get(20, 1, ids=("1-0",)), get(30, 0, ids=("2-0",)))
    verdict = judge(*ops, contract="at-most-once")
    assert (verdict.outcome, found(verdict)) == ("fail", {"wrong-id": 2})
    assert [(anomaly.message, anomaly.ids) for anomaly in verdict.anomalies] == [
        (Message(0, 1), ("1-0",)),
        (Message(0, 0), ("2-0",)),
    ]


def test_an_enqueue_that_a_client_silently_retried_is_no_corruption() -> None:
    """The first XADD's reply was lost; the client tells of the second's id alone."""
    ops = (put(0, 0, ids=("2-0",)), get(10, 0, ids=("1-0",)), get(20, 0, ids=("2-0",)))
    assert found(judge(*ops)) == {"duplicated": 1, "cloned": 1}


def test_an_unreadable_body_is_corrupted_and_shown() -> None:
    garbled = Op(
        actor="consumer",
        kind=get(0).kind,
        outcome=Outcome.OK,
        messages=(UNREADABLE,),
        invoked_ns=10,
        ended_ns=15,
        error="b'rq 7f3a 0 0 00000000 '",
    )
    verdict = judge(put(0, 0), garbled, contract="at-most-once, fifo")
    assert verdict.anomalies[1] == Anomaly(
        kind=AnomalyKind.CORRUPTED,
        message=UNREADABLE,
        last_seen=garbled,
        words="a body that no producer of this run sent whole: b'rq 7f3a 0 0 00000000 '",
    )


def test_what_was_never_sent_is_not_reordered() -> None:
    """Though its number is lower than that of one that was."""
    verdict = judge(put(0, 7), get(10, 7), get(20, 3), contract="at-least-once, fifo")
    assert found(verdict) == {"unexpected": 1}


def test_what_has_failed_for_certain_puts_nothing_out_of_order() -> None:
    """It was delivered nevertheless: that is a wrong answer, and not a wrong order."""
    failed = put(20, 2, outcome=Outcome.FAIL)
    verdict = judge(put(0, 0), put(10, 1), failed, get(30, 2), get(40, 0), get(50, 1), contract="at-least-once, fifo")
    assert found(verdict) == {"false-fail": 1}


def test_messages_taken_strictly_in_the_wrong_turn_are_reordered() -> None:
    verdict = judge(put(0, 0), put(10, 1), get(20, 1), get(30, 0, actor="other"), contract="at-least-once, fifo")
    assert (verdict.outcome, found(verdict)) == ("fail", {"reordered": 1})
    assert verdict.anomalies[0].message == Message(0, 0)
    assert judge(put(0, 0), put(10, 1), get(20, 1), get(30, 0)).outcome == "pass"


def test_a_message_behind_a_later_one_in_the_same_dequeue_is_reordered() -> None:
    """As in the chunk of a drain, whose order is that of the list."""
    verdict = judge(put(0, 0), put(10, 1), get(20, 1, 0), contract="at-least-once, fifo")
    assert (verdict.outcome, found(verdict)) == ("fail", {"reordered": 1})
    assert verdict.anomalies[0].message == Message(0, 0)
    assert judge(put(0, 0), put(10, 1), get(20, 1, 0), get(30, 0), contract="at-least-once, fifo").outcome == "fail"


@pytest.mark.parametrize(
    "ops",
    [
        pytest.param((put(0, 0), put(10, 1), get(20, 1), get(24, 0, actor="other")), id="dequeues overlap"),
        pytest.param((put(0, 0), put(4, 1), get(20, 1), get(30, 0)), id="enqueues overlap"),
        pytest.param((put(0, 0, 1), get(20, 1), get(30, 0)), id="one enqueue for both"),
        pytest.param((put(0, 0), put(4, 1), get(20, 1, 0)), id="one dequeue for both, and the enqueues overlap"),
        pytest.param((put(0, 0), put(10, 1), get(20, 0, 1)), id="one dequeue for both, in their order"),
        pytest.param((put(0, 0), put(10, 1), get(20, 0), get(30, 1), get(40, 0)), id="a repeat of the first"),
        pytest.param((put(0, 0, outcome=Outcome.INFO), put(10, 1), get(20, 1), get(30, 0)), id="first one unsure"),
        pytest.param((put(0, 0), put(10, 0, producer=1), get(20, 0, producer=1), get(30, 0)), id="other producer"),
    ],
)
def test_order_is_broken_only_where_both_were_strictly_in_turn(ops: tuple[Op, ...]) -> None:
    assert judge(*ops, contract="at-least-once, fifo").outcome == "pass"


def test_entries_that_a_declared_bound_threw_away_are_trimmed() -> None:
    ops = (put(0, 0, ids=("1-0",)), put(10, 1, ids=("2-0",)), get(20, 1, ids=("2-0",)))
    end = quiet(trimmed=("1-0",))
    assert found(judge(*ops, end=end)) == {"trimmed": 1}
    outcomes = [judge(*ops, end=end, contract=text).outcome for text in ("at-least-once", "at-least-once, bounded")]
    assert outcomes == ["fail", "pass"]


def test_a_put_without_an_id_is_lost_where_others_were_trimmed() -> None:
    """The checker itself crashed."""
    ops = [put(10, 0, ids=("1-0",)), put(20, 1), put(30, 2, ids=("3-0",)), get(40, 2, ids=("3-0",))]
    assert found(judge(*ops, end=quiet(trimmed=("1-0",)))) == {"trimmed": 1, "lost": 1}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"producers_ended": False}, "the producers had not ended"),
        ({"faults_healed": False}, "a fault had not been healed"),
        ({"drained": False}, "the queue had not been drained"),
    ],
)
def test_short_of_quiescence_nothing_is_lost_and_nothing_passes(fields: dict[str, object], reason: str) -> None:
    verdict = judge(put(0, 0), put(10, 1), get(20, 0), end=quiet(**fields))
    missing = "so it cannot be told what became of 1 acknowledged messages that were not delivered"
    assert (verdict.outcome, verdict.reasons, found(verdict)) == ("unknown", (reason, missing), {})


def test_what_is_left_in_the_queue_is_not_missing_and_yet_no_pass() -> None:
    verdict = judge(put(0, 0), put(10, 1), get(20, 0), end=quiet(remaining=(Message(0, 1),)))
    assert (verdict.outcome, verdict.totals.remaining, verdict.totals.missing) == ("unknown", 1, 0)
    assert verdict.reasons == ("1 messages could still be had from the queue",)
    lost = judge(put(0, 0), put(10, 1), put(20, 2), get(30, 0), end=quiet(remaining=(Message(0, 1),)))
    assert (lost.outcome, found(lost)) == ("fail", {"lost": 1})


def test_without_a_marker_or_with_ops_after_it_the_verdict_is_unknown() -> None:
    assert judge(*SOUND, end=None).reasons == ("the history does not end in quiescence",)
    assert judge(*SOUND, put(LATE_NS + 1, 2)).reasons[0] == "an op was invoked after quiescence had been declared"


def test_what_cannot_be_made_good_fails_also_short_of_quiescence() -> None:
    assert judge(put(0, 0), get(10, 0), get(20, 7), end=None).outcome == "fail"


def test_a_history_in_which_nothing_was_tried_proves_nothing() -> None:
    assert judge().outcome == "unknown"


def test_a_checker_that_crashes_says_unknown_and_why() -> None:
    with patch("pytest_redisq.check.judge.judge_delivery", side_effect=RuntimeError("boom")):
        verdict = check(History.of(SOUND, quiet()), Contract.parse("at-least-once"))
    assert (verdict.outcome, verdict.counts) == ("unknown", none_but())
    assert verdict.reasons == ("the checker itself crashed: RuntimeError: boom. Please report it, with the history",)


def test_counts_are_exact_where_anomalies_are_many() -> None:
    verdict = check(
        History.of([put(at * 10, at) for at in range(500)], quiet()), Contract.parse("at-least-once"), keep=3
    )
    assert (verdict.counts["lost"], len(verdict.anomalies)) == (500, 3)  # type: ignore[index]


def test_a_message_sent_more_than_255_times_is_still_counted() -> None:
    ops = [put(at * 10, 0) for at in range(300)] + [get(5_000 + at * 10, 0) for at in range(298)]
    assert found(judge(*ops)) == {"lost": 2}


def test_the_table_says_of_every_kind_what_it_means() -> None:
    assert list(LAWS) == list(AnomalyKind)
