"""trace.py: an execution as text."""

from __future__ import annotations

import json

import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.explore.schedule import Step, StepKind
from pytest_redisq.explore.trace import (
    ExecutedStep,
    WokenCommand,
    command_text,
    first_difference,
    reply_text,
)

EVENTS = [
    ExecutedStep(step=Step(1), args=(b"BLPOP", b"jobs", b"30"), blocks=True),
    ExecutedStep(
        step=Step(0),
        args=(b"RPUSH", b"jobs", b"a job"),
        reply=b":1\r\n",
        woken=(WokenCommand(actor=1, args=(b"BLPOP", b"jobs", b"30"), reply=b"*2\r\n$4\r\njobs\r\n$5\r\na job\r\n"),),
    ),
    ExecutedStep(step=Step(0, StepKind.LOSE_REPLY), args=(b"RPUSH", b"jobs", b"\x00\xff" * 30), reply=b":1\r\n"),
    ExecutedStep(step=Step(0, StepKind.TIME), args=(b"(wait)",)),
    ExecutedStep(step=Step(0, StepKind.LOSE_REQUEST), args=(b"LLEN", b"jobs")),
    ExecutedStep(step=Step(1, StepKind.KILL_BEFORE), args=(b"RPUSH", b"done", b"a job")),
]


def test_a_run_is_json_too(snapshot: SnapshotAssertion) -> None:
    """The same for machines."""
    assert json.dumps([event.record() for event in EVENTS[:3]], indent=1, ensure_ascii=False) == snapshot


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"+OK\r\n", "OK"),
        (b"$-1\r\n", "nil"),
        (b"_\r\n", "nil"),
        (b"-ERR no such key\r\n", "error: ERR no such key"),
        (b"$0\r\n\r\n", '""'),
        (b"$3\r\na b\r\n", '"a b"'),
        (b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n", "[1 [a]]"),
        (b"%1\r\n+k\r\n,1.5\r\n", "{k=1.5}"),
        (b"$2\r\n\xff\x00\r\n", "\\xff\\x00"),
        (b"half", "half"),
    ],
)
def test_replies_are_shown_for_people(raw: bytes, text: str) -> None:
    """In words, and safe for any terminal."""
    assert reply_text(raw) == text


def test_arguments_that_could_be_misread_are_quoted() -> None:
    """Blanks, nothing, quotes, control characters."""
    assert (
        command_text([b"SET", b"k", b"a b", b"", b"it's me", b"\x1b[0m"]) == """SET k "a b" "" "it's me" "\\x1b[0m\""""
    )


def test_the_first_difference_of_two_runs_is_the_first_other_command() -> None:
    """Arguments and replies, which may hold the server's ids, are not compared."""
    other = [ExecutedStep(step=event.step, args=(event.args[0], b"other"), reply=b"+x\r\n") for event in EVENTS]
    assert first_difference(EVENTS, other) is None
    assert first_difference(EVENTS, EVENTS[:4]) == 4
    assert first_difference(EVENTS, [*EVENTS[:2], EVENTS[3]]) == 2
