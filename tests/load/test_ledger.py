"""The books of a load run, and their judge, against a slow oracle of plain sets and multisets."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from pytest_redisq.check import LAWS, AnomalyKind, Contract, Knowledge, Verdict
from pytest_redisq.load.bitmap_evidence import KeySet
from pytest_redisq.load.codec import PRODUCERS_OF_A_PROCESS, key_of
from pytest_redisq.load.deliveries import LIST, READER, Coverage, Dequeue
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.model import Message
from tests.load.conftest import judge

ONCE = Contract.parse("effectively-once")
AT_LEAST_ONCE = Contract.parse("at-least-once")
FATES = ("arrives", "arrives", "arrives", "twice", "thrice", "lost", "failed", "failed but arrives", "unknown",
         "unknown but arrives", "remains", "stuck")  # fmt: skip


def wire(*keys: int) -> list[bytes]:
    return [key.to_bytes(8, "little") for key in keys]


def sent(messages: int, producer: int = 0, coverage: Coverage = LIST) -> Ledger:
    ledger = Ledger()
    ledger.reader("", coverage)
    ledger.attempt(producer, messages)
    return ledger


@st.composite
def fates(draw: st.DrawFn) -> dict[int, str]:
    """The events of each message of a few producers."""
    counts = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    keys = [key_of(producer, sequence) for producer, count in enumerate(counts) for sequence in range(count)]
    return {key: draw(st.sampled_from(FATES)) for key in keys}


@st.composite
def processes(draw: st.DrawFn) -> tuple[dict[int, str], list[int], list[Ledger]]:
    """Messages with their fates, invented ones, and the books of some processes among which all this is spread."""
    told = draw(fates())
    invented = draw(st.lists(st.builds(key_of, st.integers(50, 51), st.integers(0, 3)), max_size=3, unique=True))
    ledgers = [sent(0, producer=100 + number) for number in range(draw(st.integers(1, 4)))]

    def a_ledger() -> Ledger:
        return ledgers[draw(st.integers(0, len(ledgers) - 1))]

    homes = {producer: a_ledger() for producer in {key >> 32 for key in told}}
    for key, fate in sorted(told.items()):
        producer, home = key >> 32, homes[key >> 32]
        sequence = home.attempt(producer)
        if fate.startswith("failed"):
            home.fail(producer, sequence)
        if fate.startswith("unknown"):
            home.forget(producer, sequence)
        for _ in range({"twice": 2, "thrice": 3}.get(fate, int("arrives" in fate))):
            a_ledger().receive(wire(key))
        if fate == "remains":
            ledgers[0].remaining.add(key)
        if fate == "stuck":
            ledgers[0].pending.add(key)
    for key in invented:
        a_ledger().receive(wire(key))
    return told, invented, ledgers


@settings(max_examples=200, deadline=None)
@given(processes())
def test_every_count_agrees_with_the_oracle_whoever_booked_what(
    case: tuple[dict[int, str], list[int], list[Ledger]],
) -> None:
    told, invented, ledgers = case
    merged = Ledger()
    for ledger in ledgers:
        merged.merge(Ledger.load(ledger.dump()))
    verdict = judge(merged, ONCE)
    fate = Counter(told.values())
    expected = {
        AnomalyKind.LOST: fate["lost"],
        AnomalyKind.STUCK: fate["stuck"],
        AnomalyKind.DUPLICATED: fate["twice"] + 2 * fate["thrice"],
        AnomalyKind.CLONED: fate["twice"] + 2 * fate["thrice"],
        AnomalyKind.UNEXPECTED: len(invented),
        AnomalyKind.FALSE_FAIL: fate["failed but arrives"],
        AnomalyKind.RECOVERED: fate["unknown but arrives"],
    }
    assert {kind: times for kind, times in verdict.counts.items() if times} == {
        kind: times for kind, times in expected.items() if times
    }
    totals = verdict.totals
    assert totals.attempted == len(told) == totals.acknowledged + totals.failed + totals.unknown
    assert totals.remaining == fate["remains"]
    assert totals.repeated == fate["twice"] + 2 * fate["thrice"]
    arrived_and_sure = fate["arrives"] + fate["twice"] + fate["thrice"]
    assert totals.acknowledged == arrived_and_sure + totals.remaining + totals.pending + totals.missing


@settings(max_examples=100, deadline=None)
@given(processes())
def test_merging_does_not_depend_on_the_order(case: tuple[dict[int, str], list[int], list[Ledger]]) -> None:
    _, _, ledgers = case
    forth, back = Ledger(), Ledger()
    for ledger in ledgers:
        forth.merge(ledger)
    for ledger in reversed(ledgers):
        back.merge(ledger)
    assert judge(forth, ONCE) == judge(back, ONCE)


@given(st.lists(st.builds(key_of, st.integers(0, 2), st.integers(0, 9))), st.integers(1, 5))
def test_order_is_that_of_first_deliveries_to_one_consumer(keys: list[int], batch: int) -> None:
    ledger = sent(10, coverage=LIST.ordered(True))
    for start in range(0, len(keys), batch):
        some = keys[start : start + batch]
        dequeues = [Dequeue(at, start + at, start + at + 1) for at in range(len(some))]
        ledger.receive(wire(*some), dequeues=dequeues)
    firsts = list(dict.fromkeys(keys))
    late = {
        key for at, key in enumerate(firsts) if any(other >> 32 == key >> 32 and other > key for other in firsts[:at])
    }
    assert set(ledger.reader("").reordered) == late


@given(st.sets(st.builds(key_of, st.integers(0, 2), st.integers(0, 20))), st.integers(0, 30))
def test_runs_are_unbroken_and_a_split_takes_the_first(keys: set[int], number: int) -> None:
    found = list(KeySet(BitMap64(keys)).runs())
    assert {key_of(first.producer, first.sequence + at) for first, length in found for at in range(length)} == keys
    ends = [(one.producer, one.sequence + length) for one, length in found]
    assert all(end < tuple(start) for end, (start, _) in zip(ends, found[1:], strict=False))
    first, rest = KeySet(BitMap64(keys)).split(number)
    assert (len(first), len(rest)) == (min(number, len(keys)), max(len(keys) - number, 0))


def test_all_arrived_is_a_pass() -> None:
    ledger = sent(1000)
    ledger.receive(wire(*range(1000)))
    assert judge(ledger, ONCE).outcome == "pass"


def test_a_gap_is_told_by_its_ranges() -> None:
    ledger = sent(1000, producer=3)
    ledger.receive(wire(*(key_of(3, sequence) for sequence in range(1000) if sequence not in {5, 40, 41, 42})))
    verdict = judge(ledger, AT_LEAST_ONCE)
    assert verdict.outcome == "fail"
    assert [(each.message, each.messages, each.times) for each in verdict.anomalies] == [
        (Message(3, 5), 1, 1),
        (Message(3, 40), 3, 3),
    ]
    assert [each.where for each in verdict.anomalies] == ["3/5", "3/40-42"]


def test_a_repetition_breaks_what_promises_once_and_not_at_least_once() -> None:
    ledger = sent(2)
    ledger.receive(wire(0, 1, 1))
    assert judge(ledger, AT_LEAST_ONCE).outcome == "pass"
    assert judge(ledger, Contract.parse("at-most-once")).outcome == "fail"
    assert judge(ledger, ONCE).outcome == "fail"


def test_a_corrupted_body_breaks_every_contract() -> None:
    ledger = sent(1)
    ledger.receive(wire(0))
    ledger.corrupt(b"garbled")
    assert all(
        judge(ledger, Contract.parse(word)).outcome == "fail" for word in map(str, LAWS[AnomalyKind.CORRUPTED].breaks)
    )
    assert ledger.examples == [b"garbled"]


def test_a_take_of_unknown_outcome_makes_a_gap_indeterminate() -> None:
    ledger = sent(3)
    ledger.receive(wire(0))
    ledger.reader("").unknown_takes = 1
    counts = judge(ledger, AT_LEAST_ONCE).counts
    assert (counts[AnomalyKind.INDETERMINATE], counts[AnomalyKind.LOST]) == (1, 1)


def test_what_has_not_settled_is_unknown_and_never_a_pass() -> None:
    verdict = judge(sent(1), AT_LEAST_ONCE, unsettled=["the producers had not ended"])
    assert verdict.outcome == "unknown"
    assert not verdict.counts[AnomalyKind.LOST]


def test_what_is_left_in_the_queue_is_not_lost_yet_no_pass() -> None:
    ledger = sent(2)
    ledger.receive(wire(0))
    ledger.remaining.add(1)
    verdict = judge(ledger, AT_LEAST_ONCE)
    assert (verdict.outcome, verdict.totals.missing) == ("unknown", 0)


def test_nothing_tried_is_unknown() -> None:
    assert judge(Ledger(), AT_LEAST_ONCE).outcome == "unknown"
    assert judge(sent(0), AT_LEAST_ONCE).outcome == "unknown"


def test_what_is_pending_at_a_server_that_refuses_to_write_is_not_stuck() -> None:
    ledger = sent(2)
    ledger.receive(wire(0, 1))
    ledger.pending.add(1)
    verdict = judge(ledger, AT_LEAST_ONCE, unsettled=["the server refuses to write"])
    assert verdict.outcome == "unknown"
    assert verdict.reasons[-1] == "1 messages are pending, and may still be acknowledged"


def test_a_run_whose_messages_were_all_refused_is_no_pass() -> None:
    ledger = sent(2)
    ledger.fail(0, 0)
    ledger.fail(0, 1)
    assert judge(ledger, AT_LEAST_ONCE).outcome == "unknown"


class TestAbsentBooks:
    """A worker died, and its books with it."""

    def test_its_messages_are_not_unexpected_and_what_it_may_have_got_is_not_lost(self) -> None:
        ledger = sent(10)
        ledger.receive(wire(0, 1, key_of(PRODUCERS_OF_A_PROCESS, 4)))
        verdict = judge(ledger, AT_LEAST_ONCE, absent={1: "worker 1"})
        assert verdict.outcome == "unknown"
        assert not any(verdict.counts.values())
        assert "the records of worker 1 are missing" in verdict.reasons

    def test_what_is_pending_may_be_pending_with_it_and_is_not_stuck(self) -> None:
        ledger = sent(3)
        ledger.receive(wire(0, 1))
        ledger.pending.add(2)
        verdict = judge(ledger, AT_LEAST_ONCE, absent={1: "worker 1"})
        assert verdict.outcome == "unknown"
        assert not any(verdict.counts.values())
        assert "1 messages are pending, perhaps in a process whose records are missing" in verdict.reasons

    def test_what_is_certain_without_them_still_fails(self) -> None:
        ledger = sent(1)
        ledger.receive(wire(0, 0))
        assert judge(ledger, Contract.parse("at-most-once"), absent={1: "worker 1"}).outcome == "fail"


class TestFanOut:
    """Every reader is owed everything."""

    @staticmethod
    def verdict(*got: list[int]) -> Verdict:
        ledger = Ledger()
        ledger.attempt(0, 3)
        for number, keys in enumerate(got):
            ledger.reader(f"reader-{number}", LIST)
            ledger.receive(wire(*keys), reader=f"reader-{number}")
        return judge(ledger, Contract.parse("fan-out"))

    def test_all_got_all(self) -> None:
        assert self.verdict([0, 1, 2], [0, 1, 2]).outcome == "pass"

    def test_one_missed_one(self) -> None:
        assert self.verdict([0, 1, 2], [0, 2]).counts[AnomalyKind.LOST] == 1

    def test_one_got_nothing(self) -> None:
        assert self.verdict([0, 1, 2], []).counts[AnomalyKind.LOST] == 3


def test_what_a_reader_passed_over_is_a_poll_skip() -> None:
    """Message 2 lies between two that it got. It may have ended before message 4."""
    ledger = sent(5, coverage=READER._replace(from_start=True))
    ledger.receive(wire(*(key_of(0, number) for number in (0, 1, 3))))
    verdict = judge(ledger, Contract.parse("fan-out"))
    assert (verdict.counts[AnomalyKind.POLL_SKIP], verdict.counts[AnomalyKind.LOST]) == (1, 2)


def test_two_processes_cannot_be_the_same_producer() -> None:
    with pytest.raises(ValueError, match="producer 4"):
        sent(1, producer=4).merge(sent(1, producer=4))


_HUNDRED_MILLION = """
import resource
from array import array
from pytest_redisq.check import Contract, check
from pytest_redisq.load.deliveries import LIST
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.codec import key_of
from pytest_redisq.load.bitmap_evidence import BitmapEvidence

def kilobytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

idle, one, two = kilobytes(), Ledger(), Ledger()
one.reader("", LIST)
two.reader("", LIST)
for producer in range(10):
    one.attempt(producer, 10**7)
    for start in range(key_of(producer, 0), key_of(producer, 10**7), 10**6):
        one.reader("").add(array("Q", range(start, start + 10**6, 2)))
        two.reader("").add(array("Q", range(start + 1, start + 10**6, 2)))
one.merge(Ledger.load(two.dump()))
print(check(BitmapEvidence(one), Contract.parse("effectively-once")).outcome, kilobytes() - idle)
"""


@pytest.mark.slow
def test_a_hundred_million_messages_take_little_memory() -> None:
    """Two processes' books in one, each with every other message: the worst for bitmaps in runs."""
    told = subprocess.run([sys.executable, "-c", _HUNDRED_MILLION], capture_output=True, text=True, check=True).stdout
    outcome, kilobytes = told.split()
    assert outcome == "pass"
    assert int(kilobytes) < 300_000


def test_how_often_the_work_failed_is_said_of_each_message() -> None:
    """Messages next to each other, in one range of what is broken."""
    ledger = sent(4, coverage=LIST._replace(acks=Knowledge.RECORDED))
    received = ledger.reader("")
    ledger.receive(wire(0, 1, 2, 2, 3), dequeues=[Dequeue(at, at, at + 1) for at in range(5)])
    for key, times in ((0, 1), (1, 1), (2, 2), (3, 1)):
        received.failed[key] = times
        received.work_failed[key] = times if key < 3 else 0
    ledger.pending.add(2)
    verdict = judge(Ledger.load(ledger.dump()), AT_LEAST_ONCE)
    said = {(str(each.kind), each.message.sequence, each.messages, each.fate): each.words for each in verdict.anomalies}
    assert {
        key: words.partition(";")[0].partition(",")[0] for key, words in said.items() if key[0] != "duplicated"
    } == {
        ("stuck", 2, 1, ""): "its work failed twice",
        ("forgotten", 0, 2, "given up"): "its work failed once",
        ("forgotten", 3, 1, ""): "delivered only to a consumer that did not finish it",
        ("cloned", 2, 1, ""): "delivered again with no id by which a consumer could tell",
    }
