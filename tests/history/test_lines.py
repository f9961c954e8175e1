"""Histories in files: out and in again, cut short, and malformed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.errors import HistoryError
from pytest_redisq.history import (
    FaultRecord,
    FoundPlace,
    History,
    Quiescence,
    Search,
    read_history,
    write_history,
)
from pytest_redisq.model import UNREADABLE, Kind, Message, Op, Outcome

TEXTS = st.text(max_size=5)
MESSAGES = st.one_of(st.just(UNREADABLE), st.builds(Message, st.integers(0, 2**40), st.integers(0, 2**40)))
IDS = st.one_of(TEXTS, st.sampled_from(["0-0", "1700000000000-12", "01-0", "9999999999999999-1", "5-1048576", "5-١"]))

PLACES = st.builds(
    FoundPlace, key=TEXTS, type=st.sampled_from(["list", "hash"]), messages=st.lists(MESSAGES).map(tuple), state=TEXTS
)
SEARCHES = st.builds(Search, places=st.lists(PLACES, max_size=2).map(tuple), gap=TEXTS)


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
@given(history=st.lists(ops(), max_size=12), pending=st.lists(MESSAGES, max_size=2), search=st.none() | SEARCHES)
def test_what_is_written_is_read(
    history: list[Op], pending: list[Message], search: Search | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("history") / "run.jsonl"
    fault = FaultRecord(fault="kill:consumer@3", words="one was to die", at_ns=3, struck=1, killed=("one",))
    end = Quiescence(
        at_ns=5,
        drained=False,
        pending=tuple(pending),
        trimmed=("1-0",),
        notes=("a note",),
        search=search,
    )
    written = History.of(history, end, faults=[fault])
    write_history(written, path)
    read = read_history(path)
    assert list(read) == list(written)
    assert sorted(map(repr, read)) == sorted(map(repr, history))
    assert (read.quiescence, read.notes, read.faults) == (end, (), (fault,))


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
        '{"fault": {"fault": "drop:connections@3", "kiled": ["one"]}}',
        '{"fault": {"fault": "drop:connections@3", "at_ns": true}}',
        '{"quiescence": {"at_ns": 3, "search": []}}',
        '{"quiescence": {"at_ns": 3, "search": {"places": [{"key": 3, "type": "list"}]}}}',
    ],
)
def test_a_malformed_line_is_named_with_its_place(line: str, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(f'{{"op": 1, "actor": "a", "kind": "ack", "invoked_ns": 2}}\n{line}\n')
    with pytest.raises(HistoryError) as caught:
        read_history(path)
    assert str(caught.value).replace(str(tmp_path), "…") == snapshot


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/urandom", "a pipe", "a folder", "a loop of links"])
def test_what_has_no_end_or_no_lines_is_refused_before_it_is_opened(place: str, tmp_path: Path) -> None:
    path = Path(place)
    if not path.is_absolute():
        path = tmp_path / place
    if place == "a pipe":
        os.mkfifo(path)
    elif place == "a folder":
        path.mkdir()
    elif place == "a loop of links":
        path.symlink_to(path)
    with pytest.raises(HistoryError, match=r"is not a regular file\.\nWhat to do: write the history to a file first"):
        read_history(path)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", r"it is not JSON of a history \(it begins with b'\\x00\\x00"),
        (b"[", r"it is not JSON of a history \(it begins with b'\[\\x00"),
        (b"{", "it is longer than 268,435,456 bytes"),
        (b'{"note": "fine"}\n ', r"\.jsonl:2: .* it is not JSON"),
    ],
)
def test_a_line_without_end_takes_no_more_memory_than_the_longest_of_a_history(
    head: bytes, words: str, tmp_path: Path
) -> None:
    """A terabyte of zeros, of which the file system keeps none."""
    path = tmp_path / "sparse.jsonl"
    path.write_bytes(head)
    os.truncate(path, 1 << 40)
    script = f"""
import resource, sys
from pytest_redisq.history import read_history
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    read_history({str(path)!r})
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("HistoryError")
    assert re.search(words, done.stdout), done.stdout


def test_a_file_that_grows_is_read_to_where_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that is as fast as the reader must not keep it reading without end."""
    path = tmp_path / "grows.jsonl"
    line = '{"note": "a line"}\n'
    path.write_text(line * 10)
    known = json.loads

    def loads(text: str) -> object:
        with path.open("a") as file:
            file.write(line * 2)
        return known(text)

    monkeypatch.setattr(json, "loads", loads)
    assert len(read_history(path).notes) == 10


def test_a_line_longer_than_what_is_read_at_once_is_read(tmp_path: Path) -> None:
    remaining = tuple(Message(0, number) for number in range(100_000))
    path = tmp_path / "long.jsonl"
    write_history(History.of([], Quiescence(at_ns=1, remaining=remaining)), path)
    assert read_history(path).quiescence == Quiescence(at_ns=1, remaining=remaining)


def test_a_message_about_a_line_has_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text('{"actor": "a", "kind": "' + "x" * 1_000_000 + '", "outcome": "ok"}\n')
    with pytest.raises(HistoryError) as refused:
        read_history(path)
    assert len(str(refused.value)) < 1_000
