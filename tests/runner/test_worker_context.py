"""The steps of a run's workers as a transcript: calls, results and records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.jobs import ConsumerJob, Job, ProducerJob, Rate
from pytest_redisq.endpoint.operation_record import ReceivedMessage
from pytest_redisq.endpoint.outcomes import WorkerKilled, outcome_of
from pytest_redisq.endpoint.workload import Operation, WorkerState
from pytest_redisq.history import Recorder
from pytest_redisq.model import UNREADABLE, Kind, Message, Op, Outcome, encode_body
from pytest_redisq.queues import Stopped
from pytest_redisq.runner.status_table import KillRequest, StatusTable, WorkerStatus
from pytest_redisq.runner.worker_context import WorkerContext

RUN = "7f3a"
BODY = encode_body(RUN, Message(0, 0))
GET = Operation("get", 0.1)


@dataclass
class Queue:
    """The context of the steps for a queue whose operations send one command each."""

    acknowledges: bool = True
    runs_dry: bool = False
    fence = Fence()

    def outcome_of(self, error: Exception) -> Outcome | None:
        return outcome_of(error, commands=1)


class Room:
    """A context, and a look at what was recorded at it."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.status: WorkerStatus = StatusTable(None, 1).status(0)
        self.context: WorkerContext

    def _die(self) -> None:
        raise WorkerKilled

    def ops(self) -> list[tuple[Kind, Outcome, tuple[Message, ...]]]:
        return [(op.kind, op.outcome, op.messages) for op in self._history()]

    def errors(self) -> list[str]:
        return [op.error for op in self._history()]

    def _history(self) -> list[Op]:
        return list(self.recorder.history())

    def producer(self, messages: int = 1, pace: Rate | None = None) -> Any:
        job = ProducerJob(name="p", slot=0, run=RUN, producer=0, producers=1, messages=messages, payload=0, pace=pace)
        return self._steps(job, Queue())

    def consumer(self, *, acknowledges: bool = True) -> Any:
        job = ConsumerJob(name="c", slot=0, run=RUN, wait_seconds=0.1)
        return self._steps(job, Queue(acknowledges=acknowledges))

    def _steps(self, job: Job, queue: Queue) -> Any:
        self.context = WorkerContext(job, self.status, self.recorder, self._die)
        return self.context.steps(queue)


@pytest.fixture
def room() -> Room:
    return Room()


def test_a_producer_puts_each_message_and_ends(room: Room) -> None:
    steps = room.producer(messages=2)
    assert next(steps) == Operation("put", BODY)
    assert room.status.state is WorkerState.PUTTING
    assert steps.send("1-0") == Operation("put", encode_body(RUN, Message(0, 1)))
    with pytest.raises(StopIteration):
        steps.send(None)
    assert room.status.messages == 2
    assert room.ops() == [
        (Kind.ENQUEUE, Outcome.OK, (Message(0, 0),)),
        (Kind.ENQUEUE, Outcome.OK, (Message(0, 1),)),
    ]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (redis.ResponseError("OOM"), Outcome.FAIL),
        (redis.ConnectionError("reset"), Outcome.INFO),
        (redis.TimeoutError("late"), Outcome.INFO),
        (BrokenPipeError("gone"), Outcome.INFO),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_put_that_raises_is_an_outcome_and_the_next_follows_after_a_wait(
    room: Room, error: Exception, outcome: Outcome
) -> None:
    steps = room.producer(messages=2)
    next(steps)
    assert steps.throw(error).verb == "wait"
    room.context.stopping = True
    with pytest.raises(StopIteration):
        steps.send(None)
    assert room.ops() == [(Kind.ENQUEUE, outcome, (Message(0, 0),))]
    assert room.errors() == [f"{type(error).__name__}: {error}"]


def test_a_bug_in_a_put_passes_and_its_outcome_is_unknown(room: Room) -> None:
    steps = room.producer()
    next(steps)
    with pytest.raises(ZeroDivisionError):
        steps.throw(ZeroDivisionError())
    assert room.ops() == [(Kind.ENQUEUE, Outcome.INFO, (Message(0, 0),))]


def test_a_message_is_received_then_acknowledged(room: Room) -> None:
    steps = room.consumer()
    assert next(steps) == GET
    assert steps.send(ReceivedMessage(BODY, "1-0", "itself")) == Operation("ack", "itself")
    assert steps.send(True) == GET
    with pytest.raises(StopIteration):
        steps.throw(Stopped())
    assert room.ops() == [
        (Kind.DEQUEUE, Outcome.OK, (Message(0, 0),)),
        (Kind.ACK, Outcome.OK, (Message(0, 0),)),
        (Kind.DEQUEUE, Outcome.OK, ()),
    ]


def test_an_ack_of_what_is_no_longer_ours_has_failed(room: Room) -> None:
    steps = room.consumer()
    next(steps)
    steps.send(ReceivedMessage(BODY, None, None))
    steps.send(False)
    assert room.errors()[1] == "the message was no longer its own"


def test_an_ack_in_doubt_is_made_again(room: Room) -> None:
    steps = room.consumer()
    next(steps)
    again = steps.send(ReceivedMessage(BODY, None, "itself"))
    asked = steps.throw(redis.ConnectionError("reset"))
    while asked.verb == "wait":
        asked = steps.send(None)
    assert asked == again == Operation("ack", "itself")
    assert steps.send(False) == GET


def test_a_queue_without_acks_is_asked_for_none(room: Room) -> None:
    steps = room.consumer(acknowledges=False)
    next(steps)
    assert steps.send(ReceivedMessage(BODY, None, None)) == GET


def test_a_get_in_vain_says_since_when(room: Room) -> None:
    steps = room.consumer()
    next(steps)
    since = room.status.since_ns
    steps.send(None)
    assert room.status.idle_ns == since


def test_a_body_that_is_not_ours_is_recorded_as_it_is(room: Room) -> None:
    steps = room.consumer(acknowledges=False)
    next(steps)
    steps.send(ReceivedMessage(b"hello", None, None))
    assert room.ops()[0] == (Kind.DEQUEUE, Outcome.OK, (UNREADABLE,))
    assert room.errors()[0] == "b'hello'"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (KillRequest.DIE_RECEIVING, [(Kind.DEQUEUE, Outcome.INFO, ())]),
        (KillRequest.DIE_HOLDING, [(Kind.DEQUEUE, Outcome.OK, (Message(0, 0),))]),
    ],
)
def test_death_comes_with_a_message_in_hands(room: Room, order: KillRequest, expected: Any) -> None:
    room.status.request_kill(order)
    steps = room.consumer()
    next(steps)
    with pytest.raises(WorkerKilled):
        steps.send(ReceivedMessage(BODY, None, None))
    assert room.ops() == expected


@pytest.mark.parametrize(
    "answer",
    [lambda steps: steps.send(None), lambda steps: steps.throw(redis.ConnectionError())],
    ids=["reply", "error"],
)
def test_the_dead_record_nothing(room: Room, answer: Callable[[Any], Any]) -> None:
    steps = room.consumer()
    next(steps)
    room.context.dead = True
    with pytest.raises(WorkerKilled):
        answer(steps)
    assert room.ops() == [(Kind.DEQUEUE, Outcome.INFO, ())]
    assert room.errors() == ["it never ended"]


def test_a_pace_is_waited_for_in_slices(room: Room) -> None:
    steps = room.producer(messages=2, pace=Rate(0.01))
    next(steps)
    assert steps.send(None) == Operation("wait", 0.05)
    assert room.status.state is WorkerState.WAITING
