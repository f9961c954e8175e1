"""step_table.py, folding.py: an execution as a table, without the steps that say nothing."""

from __future__ import annotations

import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.explore.folding import LeftOut, fold
from pytest_redisq.explore.schedule import Schedule, Step, StepKind
from pytest_redisq.explore.step_table import describe, step_table
from pytest_redisq.explore.trace import ExecutedStep
from pytest_redisq.terminal import width
from tests.explore.test_trace import EVENTS


def test_a_run_is_a_table_with_a_lane_for_each_actor(snapshot: SnapshotAssertion) -> None:
    """Commands with replies, waking, faults, binary data."""
    assert step_table(EVENTS, names=["producer", "worker"], columns=400) == snapshot
    assert str(Schedule(event.step for event in EVENTS)) == "BAArAtAqBk"


@pytest.mark.parametrize("columns", [76, 80, 100, 120])
def test_a_table_fits_into_the_terminal(columns: int) -> None:
    """Only what is too long is cut, and faults never are."""
    lines = step_table(EVENTS, names=["producer", "worker"], columns=columns).splitlines()
    assert max(map(width, lines)) <= columns
    assert [line for line in lines if line.endswith("  ⚡ killed before")]
    assert [line for line in lines if "…" in line and "→ 1  ⚡ reply lost" in line]
    assert "LLEN jobs  ⚡ request lost" in "".join(lines)


def test_what_handles_a_message_at_fault_has_a_point() -> None:
    """In commands, in replies, and in the reply of a blocked command that a push ended."""
    lines = step_table(EVENTS, at_fault=[b"a job"], columns=400).splitlines()
    assert [line.split(" │ ")[0].strip() for line in lines[2:]] == ["1", "●2", "3", "4", "5", "●6"]
    assert "●" not in step_table(EVENTS, columns=400)


BLOCKS = ExecutedStep(step=Step(0), args=(b"BLPOP", b"jobs", b"2"), blocks=True)
TIMES_OUT = ExecutedStep(step=Step(0, StepKind.TIME), args=(b"BLPOP", b"jobs", b"2"), reply=b"*-1\r\n")
TAKES = ExecutedStep(step=Step(0), args=(b"LPOP", b"jobs"), reply=b"$2\r\nm1\r\n")


def test_repeated_polls_are_one_line_with_the_time_that_passes() -> None:
    """And the numbers of the steps stay, so that they fit the schedule."""
    events = [BLOCKS, TIMES_OUT] * 28 + [TAKES]
    times = [2.0 * (at // 2 + at % 2) for at in range(56)]
    lines = step_table(events, columns=80, times=[*times, times[-1]]).splitlines()
    assert lines[2:] == [
        " 1 │ BLPOP jobs 2 …",
        " 2 │ BLPOP jobs 2 → nil  ⚡ time passes",
        " ⋮ │ 27 × the same 2 steps, 54 s",
        "57 │ LPOP jobs → m1",
    ]


def test_a_poll_by_the_clock_is_the_same_each_time() -> None:
    """A command that is different is not."""
    polls = [
        ExecutedStep(step=Step(0), args=(b"ZRANGEBYSCORE", b"due", b"0", b"1795825830.%d" % at), reply=b"*0\r\n")
        for at in range(5)
    ]
    assert step_table(polls, columns=80).splitlines()[3:] == ["⋮ │ 4 × the same"]
    counts = [ExecutedStep(step=Step(0), args=(b"INCRBY", b"n", b"1"), reply=b":%d\r\n" % at) for at in range(5)]
    assert "⋮" not in step_table(counts, columns=80)


def test_the_end_in_which_nothing_comes_is_left_out() -> None:
    """After the last step with a message at fault, where it is known; a step that does something ends it."""
    quiet = [BLOCKS, TIMES_OUT, ExecutedStep(step=Step(1, StepKind.TIME), args=(b"(wait)",))]
    lines = step_table([TAKES, *quiet], at_fault=[b"m1"], columns=80, times=[0.0, 0.0, 2.0, 60.0]).splitlines()
    assert lines[2:] == ["●1 │ LPOP jobs → m1 │", " ⋮ │ 3 more steps, in which nothing comes, 60 s"]
    assert "⋮" not in step_table([TAKES, *quiet], columns=80)
    assert "⋮" not in step_table([TAKES, *quiet, TAKES], at_fault=[b"m1"], columns=80)
    push = ExecutedStep(step=Step(1), args=(b"RPUSH", b"x", b"y"), reply=b":1\r\n")
    assert "⋮" not in step_table([TAKES, *quiet, push], at_fault=[b"m1"], columns=80)


def test_a_message_at_fault_is_never_left_out() -> None:
    events = [TAKES] * 10
    assert len(step_table(events, columns=80).splitlines()) == 4
    assert len(step_table(events, columns=80, at_fault=[b"m1"]).splitlines()) == 12


@pytest.mark.parametrize(
    ("keys", "rows"),
    [
        ("", []),
        ("abab", [0, 1, 2, 3]),
        ("aaaa", [0, LeftOut(first=1, last=3, period=1)]),
        ("ababababa", [0, 1, LeftOut(first=2, last=7, period=2), 8]),
        ("xaaaay", [0, 1, LeftOut(first=2, last=4, period=1), 5]),
    ],
)
def test_only_repetitions_are_left_out_and_only_long_ones(keys: str, rows: list[object]) -> None:
    assert fold(keys) == rows


def test_a_step_is_described_in_one_line() -> None:
    event = ExecutedStep(step=Step(0, StepKind.KILL_AFTER), args=(b"SET", b"k", b"x" * 500), reply=b"+OK\r\n")
    assert width(describe(event)) == 120
    assert describe(event).endswith("x… → OK  ⚡ killed after")
