"""Fan-out over literal histories: every reader is judged for itself."""

from __future__ import annotations

from pytest_redisq.model import Op, Outcome
from tests.check.literals import found, get, judge, put, quiet


def entries(number: int, at: int = 100) -> tuple[Op, ...]:
    """Entries 0 … `number` − 1, ids 1-0 …, ten nanoseconds apart."""
    return tuple(put(at + 10 * each, each, ids=(f"{each + 1}-0",)) for each in range(number))


def poll(at: int, *sequences: int, reader: str = "one") -> Op:
    return get(at, *sequences, actor=reader, ids=tuple(f"{each + 1}-0" for each in sequences))


#: A poll that ended, empty, before anything was enqueued: from then on the reader is owed all.
EARLY = poll(0)
EARLY_TWO = poll(0, reader="two")


def test_every_reader_gets_every_entry() -> None:
    ops = (EARLY, EARLY_TWO, *entries(3), poll(200, 0, 1, 2), poll(200, 0, reader="two"), poll(210, 1, 2, reader="two"))
    verdict = judge(*ops, contract="fan-out, fifo")
    assert (verdict.outcome, found(verdict), verdict.totals.delivered) == ("pass", {}, 6)


def test_an_entry_that_one_reader_did_not_get_is_lost_for_it_alone() -> None:
    verdict = judge(EARLY, EARLY_TWO, *entries(1), poll(200, 0), contract="fan-out")
    assert (verdict.outcome, found(verdict)) == ("fail", {"lost": 1})
    assert verdict.anomalies[0].reader == "two"


def test_the_dollar_trap_shows_as_entries_passed_over() -> None:
    """XREAD BLOCK … $ in a loop gets the first of a burst and then what comes after the burst."""
    verdict = judge(*entries(5), poll(98, 0), poll(200, 4), contract="fan-out")
    assert (verdict.outcome, found(verdict)) == ("fail", {"lost": 3, "poll-skip": 3})


def test_going_back_in_the_stream_is_nonmonotonic() -> None:
    verdict = judge(EARLY, *entries(3), poll(200, 0, 1), poll(210, 1, 2), contract="fan-out")
    assert (verdict.outcome, found(verdict)) == ("fail", {"duplicated": 1, "nonmonotonic-poll": 1})
    assert verdict.anomalies[1].words == "delivered under 2-0 to a reader that had already got 2-0"


def test_a_reader_that_came_late_is_owed_only_what_came_after_it() -> None:
    ops = (EARLY, *entries(3), poll(200, 0, 1, 2), poll(115, 1, reader="late"), poll(210, 2, reader="late"))
    verdict = judge(*ops, contract="fan-out")
    assert (verdict.outcome, found(verdict)) == ("pass", {"late-join": 1})


def test_an_unknown_poll_explains_one_entry() -> None:
    died = get(300, actor="one", outcome=Outcome.INFO)
    assert found(judge(EARLY, *entries(2), poll(200, 0), died, contract="fan-out")) == {"indeterminate": 1}


def test_trimmed_entries_are_visible_and_break_what_was_not_declared_bounded() -> None:
    ops = (EARLY, *entries(2), poll(200, 1))
    end = quiet(trimmed=("1-0",))
    assert found(judge(*ops, contract="fan-out", end=end)) == {"trimmed": 1}
    outcomes = [judge(*ops, contract=text, end=end).outcome for text in ("fan-out", "fan-out, bounded")]
    assert outcomes == ["fail", "pass"]


def test_what_remains_in_a_stream_is_no_obstacle() -> None:
    ops = (EARLY, *entries(1), poll(200, 0))
    assert judge(*ops, contract="fan-out", end=quiet(remaining=ops[1].messages)).outcome == "pass"


def test_an_entry_added_twice_by_a_retry_is_cloned() -> None:
    ops = (EARLY, put(100, 0, ids=("2-0",)), get(200, 0, 0, actor="one", ids=("1-0", "2-0")))
    verdict = judge(*ops, contract="fan-out")
    assert (verdict.outcome, found(verdict)) == ("fail", {"duplicated": 1, "cloned": 1})


def test_order_is_judged_for_each_reader() -> None:
    unnamed = (get(0, actor="one"), put(100, 0), put(110, 1), get(200, 1, actor="one"), get(210, 0, actor="one"))
    assert found(judge(*unnamed, contract="fan-out, fifo")) == {"reordered": 1}


def test_without_quiescence_nothing_is_lost_yet_but_a_skip_is_a_skip() -> None:
    verdict = judge(*entries(3), poll(98, 0), poll(200, 2), contract="fan-out", end=None)
    assert (verdict.outcome, found(verdict)) == ("fail", {"poll-skip": 1})
