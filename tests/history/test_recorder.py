"""Recorders: across threads, tasks and processes, and across the death of a process."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_redisq.history import Journal, Recorder, Recording, read_history
from pytest_redisq.model import UNREADABLE, Kind, Message, Op, Outcome


def tell_everything(recording: Recording) -> None:
    recording.ok(recording.invoke("p", Kind.ENQUEUE, (Message(0, 0),), queue="jobs"), ids=("1-0",))
    recording.fail(recording.invoke("p", Kind.ENQUEUE, (Message(0, 1),)), "refused")
    recording.info(recording.invoke("c", Kind.DEQUEUE), "cut")
    recording.ok(recording.invoke("c", Kind.DEQUEUE), (UNREADABLE,), error="b'?'")
    recording.ok(recording.invoke("c", Kind.DEQUEUE), ())
    recording.invoke("c", Kind.ACK, (Message(0, 0),))


def told(never_ended: str) -> list[Op]:
    common = {"ids": (), "queue": "", "error": ""}
    rows = [
        ("p", Kind.ENQUEUE, Outcome.OK, (Message(0, 0),), 0, 1, {"ids": ("1-0",), "queue": "jobs"}),
        ("p", Kind.ENQUEUE, Outcome.FAIL, (Message(0, 1),), 2, 3, {"error": "refused"}),
        ("c", Kind.DEQUEUE, Outcome.INFO, (), 4, 5, {"error": "cut"}),
        ("c", Kind.DEQUEUE, Outcome.OK, (UNREADABLE,), 6, 7, {"error": "b'?'"}),
        ("c", Kind.DEQUEUE, Outcome.OK, (), 8, 9, {}),
        ("c", Kind.ACK, Outcome.INFO, (Message(0, 0),), 10, None, {"error": never_ended}),
    ]
    return [
        Op(actor=a, kind=k, outcome=o, messages=m, invoked_ns=i, ended_ns=e, **{**common, **rest})  # type: ignore[arg-type]
        for a, k, o, m, i, e, rest in rows
    ]


def test_a_recorder_keeps_what_it_is_told() -> None:
    recorder = Recorder(clock=itertools.count().__next__)
    tell_everything(recorder)
    assert list(recorder.history()) == told("it never ended")


def test_a_journal_keeps_what_it_is_told(tmp_path: Path) -> None:
    with Journal(tmp_path / "child.jsonl", clock=itertools.count().__next__) as journal:
        tell_everything(journal)
    assert list(read_history(journal.path)) == told("its process ended first")


def test_quiescence_is_part_of_the_history() -> None:
    recorder = Recorder(clock=itertools.count().__next__)
    recorder.quiescence(drained=False)
    mark = recorder.quiescence(pending=[Message(0, 3)], trimmed=["1-0"], notes=["n"])
    assert recorder.history().quiescence == mark
    assert (mark.at_ns, mark.drained, mark.pending, mark.trimmed) == (1, True, (Message(0, 3),), ("1-0",))


def test_threads_record_at_once_and_nothing_is_lost() -> None:
    recorder = Recorder()

    def work(producer: int) -> None:
        for sequence in range(5_000):
            recorder.ok(recorder.invoke(f"p{producer}", Kind.ENQUEUE, (Message(producer, sequence),)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    messages = [op.messages[0] for op in recorder.history()]
    assert sorted(messages) == [Message(producer, sequence) for producer in range(4) for sequence in range(5_000)]


def test_tasks_that_interleave_keep_their_ops_apart() -> None:
    recorder = Recorder(clock=itertools.count().__next__)

    async def work(producer: int) -> None:
        token = recorder.invoke(f"p{producer}", Kind.ENQUEUE, (Message(producer, 0),))
        await asyncio.sleep(0)
        recorder.ok(token)

    async def main() -> None:
        await asyncio.gather(*map(work, range(3)))

    asyncio.run(main())
    assert [(op.actor, op.invoked_ns, op.ended_ns) for op in recorder.history()] == [
        ("p0", 0, 3),
        ("p1", 1, 4),
        ("p2", 2, 5),
    ]


def test_an_op_ends_once() -> None:
    recorder = Recorder()
    token = recorder.invoke("p", Kind.ENQUEUE)
    recorder.ok(token)
    with pytest.raises(ValueError, match=f"token {token} has no open op: call ok, fail or info once"):
        recorder.info(token)


def test_ids_are_one_for_each_message_or_none() -> None:
    recorder = Recorder()
    token = recorder.invoke("p", Kind.ENQUEUE, (Message(0, 0), Message(0, 1)))
    with pytest.raises(ValueError, match="got 1 for 2 messages"):
        recorder.ok(token, ids=("1-0",))


CHILD = """
import sys
from pytest_redisq.history import Journal
from pytest_redisq.model import Kind, Message
journal = Journal(sys.argv[1])
journal.ok(journal.invoke("c", Kind.DEQUEUE), [Message(0, 1)])
journal.invoke("c", Kind.DEQUEUE)
print("invoked", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_had_invoked_is_on_record(tmp_path: Path) -> None:
    path = tmp_path / "child.jsonl"
    command = [sys.executable, "-c", CHILD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"invoked\n"
        os.kill(child.pid, signal.SIGKILL)
    done, cut = read_history(path)
    assert (done.outcome, done.messages) == (Outcome.OK, (Message(0, 1),))
    assert (cut.outcome, cut.messages, cut.ended_ns) == (Outcome.INFO, (), None)
    assert done.ended_ns is not None
    assert done.ended_ns <= cut.invoked_ns


def _invoke_in_child(recorder: Recorder, report: multiprocessing.connection.Connection) -> None:  # type: ignore[name-defined]
    try:
        recorder.invoke("p", Kind.ENQUEUE)
    except RuntimeError as error:
        report.send(str(error))


def test_a_recorder_refuses_to_be_used_across_a_fork() -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_invoke_in_child, args=(Recorder(), there))
    child.start()
    assert here.poll(20)
    assert here.recv().endswith("open a Journal on its own file, and merge it afterwards.")
    child.join()
    child.close()
    here.close()
    there.close()


def test_two_processes_never_write_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "child.jsonl"), pytest.raises(FileExistsError):
        Journal(tmp_path / "child.jsonl")
