"""Terminals: none obeys what a name or a body has in it, and one that knows ASCII alone is enough."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_redisq.check import Contract, check
from pytest_redisq.explore import explore
from pytest_redisq.explore.schedule import Step
from pytest_redisq.explore.step_table import step_table
from pytest_redisq.explore.trace import ExecutedStep, reply_text
from pytest_redisq.history import read_history
from pytest_redisq.report import explain
from pytest_redisq.servers import start
from pytest_redisq.terminal import degrade, escaped, fit, width
from tests.inner import InnerRuns
from tests.support import local, local_kind

HOSTILE = "\x1b]0;title\x07\x1b[2J\r\n\x00\x7f\x9b31m\u202egnp.exe\u2028<script>alert(1)</script>\udcff"
#: The ways in which a terminal comes to know ASCII alone.
ASCII = (
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""},
)


def is_harmless(text: str) -> bool:
    return all(char.isprintable() for char in text.replace("\n", ""))


@given(st.text())
def test_nothing_escaped_is_obeyed(text: str) -> None:
    assert not set(escaped(text)) & {chr(code) for code in (*range(32), *range(127, 160), 0x202E, 0x2028)}
    assert len(escaped(text).encode()) >= len(text)
    assert escaped(escaped(text)) == escaped(text)


@given(text=st.text("a漢é\u0301🙂…", max_size=50), columns=st.integers(-2, 20))
def test_what_fits_is_never_wider(text: str, columns: int) -> None:
    """Where there is no room at all, nothing is left."""
    assert width(fit(text, columns)) <= max(0, columns)
    assert fit(text, columns) == text or fit(text, columns).endswith("…" if columns > 0 else "")


def test_a_stream_that_knows_ascii_alone_gets_plain_signs_of_the_same_width() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    degrade(stream)
    stream.write("1 │ LLEN jobs → 2 …\n──┼\n✓ é 漢 \udcff ⚡")
    stream.flush()
    assert raw.getvalue().decode() == "1 | LLEN jobs > 2 ~\n--\\u253c\n+ \\xe9 \\u6f22 \\udcff !"
    for other in (None, object(), io.StringIO()):
        degrade(other)


@pytest.mark.parametrize("name", [HOSTILE, "漢字" * 50, "e\u0301" * 100, "x" * 10_000, "🙂🙂"])
def test_a_table_keeps_its_shape_whatever_actors_and_bodies_are_called(name: str) -> None:
    body = name.encode(errors="surrogateescape")
    reply = b"$%d\r\n%s\r\n" % (len(body), body)
    events = [
        ExecutedStep(step=Step(0), args=(b"SET", body), reply=reply),
        ExecutedStep(step=Step(1), args=(b"GET",), reply=reply),
    ]
    drawn = step_table(events, names=[escaped(name), "two"], columns=100)
    rows = [line for line in drawn.splitlines() if "│" in line]
    assert is_harmless(drawn)
    assert len(rows) == 3
    assert len({width(row[: row.rindex("│")]) for row in rows}) == 1
    assert max(map(width, rows)) < 200


@pytest.mark.parametrize(
    "raw", [b"-ERR \x1b[31m\r\n", b"+\x1b]0;t\x07\r\n", b"$4\r\n\x1b[2J\r\n", b"%1\r\n+\x1b\r\n+\x9b\r\n"]
)
def test_a_reply_is_harmless(raw: bytes) -> None:
    assert is_harmless(reply_text(raw))


def test_an_explored_actor_may_be_called_anything() -> None:
    """In the error, in the JSON and in the page."""
    server = start(local())

    def scenario(world):  # type: ignore[no-untyped-def]
        world.actor(lambda client: client.set("k", HOSTILE.encode(errors="replace")), name=HOSTILE)
        world.run()
        raise AssertionError("no")

    try:
        failure = explore(scenario, url=server.url, schedules=1).failure
    finally:
        server.stop()
    assert failure is not None
    assert "<script>" not in failure.page()
    for text in (failure.page(), failure.explain(), str(failure.record()["actors"])):
        assert is_harmless(text)


def test_a_history_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(
        '{"actor": "\\u001b[31mred", "kind": "enqueue", "outcome": "ok", "messages": [[0, 0]], "ids": ["\\u001b]0;t"],'
        ' "invoked_ns": 1, "ended_ns": 2, "queue": "\\u202e", "error": "\\u009b"}\n'
        '{"quiescence": {"at_ns": 3, "producers_ended": true, "notes": ["\\u001b[2J"]}}\n'
    )
    said = explain(check(read_history(path), Contract.parse("at-least-once")))
    assert "\\x1b[31mred" in said
    assert is_harmless(said)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["doctor", "--server", "LOCAL"], 0),
        (["check", "h.jsonl", "at-least-once"], 3),
        (["check", "é漢.jsonl", "at-least-once"], 2),
        (["keep", "h.jsonl", "--name", "é漢", "--why", "→", "--contract", "fifo…"], 2),
        (["keep", "h.jsonl", "--name", "é漢", "--why", "→", "--contract", "at-least-once"], 0),
        (["drain", "é漢", "--to", "é漢.txt", "--url", "redis://127.0.0.1:1"], 1),
        (["load", "é漢"], 4),
    ],
)
def test_a_command_speaks_ascii_where_nothing_else_is_understood(words: list[str], status: int, tmp_path: Path) -> None:
    line = '{"actor": "é→", "kind": "enqueue", "outcome": "ok", "messages": [[0, 0]], "invoked_ns": 1, "ended_ns": 2}\n'
    (tmp_path / "h.jsonl").write_text(line, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest_redisq", *(word.replace("LOCAL", local_kind()) for word in words)],
        capture_output=True,
        timeout=90,
        check=False,
        cwd=tmp_path,
        env=os.environ | ASCII[len(words) % 2],
    )
    assert done.returncode == status, done
    assert b"UnicodeEncodeError" not in done.stdout + done.stderr
    assert done.stdout.isascii()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["demo"], ["load", "blpop-workers", "--time", "1s", "--consumers", "4"]], ids=" ".join
)
def test_so_do_those_that_take_longer(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_redisq", *words, "--server", local_kind()],
        capture_output=True,
        timeout=110,
        check=False,
        env=os.environ | ASCII[0],
    )
    assert done.returncode == 0, done
    assert (done.stdout + done.stderr).isascii()


_EXPLORES = """
def take(client):
    if client.llen("jobs"):
        return client.blpop("jobs", 0.1)[1]

def two_takers(world):
    world.redis.rpush("jobs", "é")
    one, two = world.actor(take, name="\\x1b[31mone"), world.actor(take, name="漢字")
    world.run()

def test_one(redisq):
    redisq.explore(two_takers)
"""


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_so_does_a_table_in_the_report_of_pytest(inner: InnerRuns, options: tuple[str, ...]) -> None:
    inner.file("test_it.py", _EXPLORES)
    result = inner.run(*options, plugins=("xdist",) if options else (), environ=dict(ASCII[0]))
    result.assert_outcomes(failed=1)
    assert all(line.isascii() for line in result.outlines)
    result.stdout.fnmatch_lines(["*| A \\x1b[[]31mone *| B \\u6f22\\u5b57*", "E * 1 | LLEN jobs > 1 *"])
