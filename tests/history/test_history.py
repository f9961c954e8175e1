"""Histories in memory: sorted, merged, small."""

from __future__ import annotations

import itertools

from pytest_redisq.history import History, Quiescence, Recorder
from pytest_redisq.model import Kind, Message, Op, Outcome


def op(invoked_ns: int, ended_ns: int | None = None, *, ids: tuple[str, ...] = (), actor: str = "a") -> Op:
    return Op(
        actor=actor,
        kind=Kind.ENQUEUE,
        outcome=Outcome.OK,
        messages=(Message(0, invoked_ns),),
        ids=ids,
        invoked_ns=invoked_ns,
        ended_ns=ended_ns,
    )


def test_ops_come_by_time_of_invocation_however_they_went_in() -> None:
    ops = [op(5, 6), op(1, 2), op(3, 4, actor="b"), op(10**15, 10**16), op(2)]
    assert list(History.of(ops)) == sorted(ops, key=lambda each: each.invoked_ns)
    assert len(History.of(ops)) == 5


def test_parts_merge_by_time_and_keep_their_ids() -> None:
    one = [op(1, 2, ids=("x",)), op(7, 8, ids=("5-0",))]
    two = [op(3, 4, ids=("y",), actor="b"), op(5, 6, ids=("x",), actor="b")]
    merged = History.merge(History.of(one, Quiescence(at_ns=9)), History.of(two, Quiescence(at_ns=8)))
    assert list(merged) == [one[0], two[0], two[1], one[1]]
    assert merged.quiescence == Quiescence(at_ns=9)


def test_an_op_with_one_message_takes_a_few_bytes() -> None:
    recorder = Recorder(clock=itertools.count(10**15, 40_000).__next__)
    for sequence in range(10_000):
        token = recorder.invoke("p", Kind.ENQUEUE, (Message(0, sequence),))
        recorder.ok(token)
    (group,) = recorder.history().groups
    columns = (group.invoked_ns.steps, group.durations_ns, group.producers, group.sequences)
    assert sum(len(column) * column.cells.itemsize for column in columns) <= 13 * 10_000
