"""Histories in files: out and in again, cut short, and malformed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.errors import HistoryError
from pytest_redisq.history import History, Quiescence, read_history, write_history
from pytest_redisq.model import UNREADABLE, Kind, Message, Op, Outcome

TEXTS = st.text(max_size=5)
MESSAGES = st.one_of(st.just(UNREADABLE), st.builds(Message, st.integers(0, 2**40), st.integers(0, 2**40)))
IDS = st.one_of(TEXTS, st.sampled_from(["0-0", "1700000000000-12", "01-0", "9999999999999999-1", "5-1048576", "5-١"]))


@st.composite
def ops(draw: st.DrawFn) -> Op:
    messages = tuple(draw(st.lists(MESSAGES, max_size=3)))
    ids = tuple(draw(IDS) for _ in messages) if draw(st.booleans()) else ()
    invoked, outcome = draw(st.integers(0, 2**60)), draw(st.sampled_from(Outcome))
    ended = st.integers(invoked, 2**61)
    return Op(
        actor=draw(st.sampled_from(["a", "b"])),
        kind=draw(st.sampled_from(Kind)),
        outcome=outcome,
        messages=messages,
        ids=ids,
        invoked_ns=invoked,
        ended_ns=draw(st.one_of(st.none(), ended) if outcome is Outcome.INFO else ended),
        queue=draw(TEXTS),
        error=draw(TEXTS),
    )


@settings(max_examples=80, deadline=None)
@given(history=st.lists(ops(), max_size=12), pending=st.lists(MESSAGES, max_size=2))
def test_what_is_written_is_read(
    history: list[Op], pending: list[Message], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("history") / "run.jsonl"
    end = Quiescence(at_ns=5, drained=False, pending=tuple(pending), trimmed=("1-0",), notes=("a note",))
    written = History.of(history, end)
    write_history(written, path)
    read = read_history(path)
    assert list(read) == list(written)
    assert sorted(map(repr, read)) == sorted(map(repr, history))
    assert (read.quiescence, read.notes) == (end, ())


def test_a_last_line_cut_short_is_left_out_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "child.jsonl"
    path.write_text('{"op":0,"actor":"c","kind":"dequeue","invoked_ns":5}\n{"op":0,"outcome":"ok","end')
    history = read_history(path)
    assert history.notes == ("child.jsonl:2: the last line was cut short and is left out",)
    assert [(op.outcome, op.invoked_ns, op.ended_ns) for op in history] == [(Outcome.INFO, 5, None)]


def test_a_last_line_cut_within_a_letter_is_left_out_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "child.jsonl"
    path.write_bytes('{"note":"fünf"}\n{"note":"fü'.encode()[:-1])
    assert read_history(path).notes == ("fünf", "child.jsonl:2: the last line was cut short and is left out")


@pytest.mark.parametrize(
    "data", [b"\x1f\x8b\x08\x00\n", b'{"note":"\xff"}\n', b"[" * 100_000 + b"\n"], ids=["gzip", "latin-1", "nested"]
)
def test_what_is_no_json_at_all_is_told(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(data)
    with pytest.raises(HistoryError, match=r"run\.jsonl:1: not a line of a history: it is not JSON"):
        read_history(path)


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '"text"',
        '{"actor": "a", "kind": "enqeue", "outcome": "ok", "invoked_ns": 1}',
        '{"actor": "a", "kind": "enqueue", "outcome": "ok"}',
        '{"actor": "a", "kind": "enqueue", "outcome": "ok", "invoked_ns": "1"}',
        '{"actor": "a", "kind": "enqueue", "outcome": "ok", "invoked_ns": 1, "messages": [3]}',
        '{"actor": "a", "kind": "ack", "outcome": "info", "invoked_ns": 1, "messages": [[0, 0]], "ids": ["1", "2"]}',
        '{"actor": "a", "kind": "ack", "outcome": "ok", "invoked_ns": 1, "messages": [[0, 0]], "ids": "1"}',
        '{"actor": "a", "kind": "dequeue", "outcome": "ok", "invoked_ns": 1}',
        '{"actor": "a", "kind": "ack", "outcome": "ok", "invoked_ns": 2, "ended_ns": 1}',
        '{"op": 1, "outcome": "info", "messages": [[0, 9223372036854775808]]}',
        '{"op": 2, "kind": "ack", "invoked_ns": 3}',
        '{"actor": "a", "kind": "enqueue", "outcome": "ok", "invoked_ns": 1, "mesages": []}',
        '{"op": 7, "outcome": "ok", "ended_ns": 3}',
        '{"op": 1, "actor": "a", "kind": "ack", "invoked_ns": 3}',
        '{"quiescence": {"at": 3}}',
        '{"quiescence": {"at_ns": 3, "pending": [0]}}',
        '{"quiescence": {"drained": true}}',
        '{"quiescence": {"at_ns": "3"}}',
        '{"quiescence": {"at_ns": 3, "drained": "no"}}',
        '{"quiescence": {"at_ns": 3, "trimmed": "1-0"}}',
    ],
)
def test_a_malformed_line_is_named_with_its_place(line: str, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(f'{{"op": 1, "actor": "a", "kind": "ack", "invoked_ns": 2}}\n{line}\n')
    with pytest.raises(HistoryError) as caught:
        read_history(path)
    assert str(caught.value).replace(str(tmp_path), "…") == snapshot
