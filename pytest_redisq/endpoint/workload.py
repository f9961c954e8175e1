"""What a producer and a consumer do, without IO: one logic, driven for threads and processes and for asyncio tasks.

A worker is a generator that yields what is to be done with its end of the queue and is sent the result, or has the
error thrown in. Around each call it records an invocation and an end; what lies between the two is the call alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from pytest_redisq.endpoint.jobs import ConsumerJob, ProducerJob
from pytest_redisq.endpoint.outcomes import CONNECTION_ERRORS
from pytest_redisq.endpoint.status_table import KillRequest, WorkerState, WorkerStatus
from pytest_redisq.history import Recording
from pytest_redisq.model import UNREADABLE, Kind, Message, Outcome, decode_body, encode_body
from pytest_redisq.queues import Stopped

#: After such an error a worker waits, at first this long and each time twice as long, up to the second number.
_BACKOFF_SECONDS = (0.005, 0.2)
#: No single wait of a worker is longer than this, so that it sees in time that it is to stop.
_SLICE_SECONDS = 0.05
#: How much of a body that is not ours is shown.
_SHOWN_BYTES = 60


class WorkerKilled(BaseException):
    """This worker has been killed: it does nothing any more, and records nothing."""


class Operation(NamedTuple):
    """A call to make upon the worker's end of the queue, or a wait (`value` in seconds)."""

    verb: Literal["put", "get", "ack", "wait"]
    value: Any


Steps: TypeAlias = Generator[Operation, Any, None]
#: The outcome of an operation that raised this error; None if the error comes from the queue's own code.
OutcomeOf: TypeAlias = Callable[[Exception], Outcome | None]


class ReceivedMessage(NamedTuple):
    """What `get` came back with: its body and id, and the thing itself, as `ack` wants it."""

    body: bytes
    id: str | None
    delivery: Any


@dataclass(slots=True, kw_only=True)
class WorkloadContext:
    """What a worker has at hand. `die` kills it (a process: for good; a thread or task: by raising `WorkerKilled`)."""

    status: WorkerStatus
    recording: Recording
    die: Callable[[], None]
    stopping: bool = False
    dead: bool = False
    started_ns: int = field(default=0)

    def check_alive(self) -> None:
        """Raise `WorkerKilled` if this worker was killed. Called after each operation, before its end is recorded."""
        if self.dead:
            raise WorkerKilled


def produce(job: ProducerJob, context: WorkloadContext, *, outcome_of: OutcomeOf) -> Steps:
    backoff = _Backoff()
    for sequence in range(job.messages):
        if job.pace is not None:
            yield from _wait_until(
                context.started_ns + int(job.pace.due_seconds(sequence, job.producers) * 1e9), context
            )
        if context.stopping:
            return
        message = Message(job.producer, sequence)
        body = encode_body(job.run, message, job.payload_for(message))
        token = context.recording.invoke(job.name, Kind.ENQUEUE, (message,))
        context.status.enter(WorkerState.PUTTING)
        answer = yield from _call(Operation("put", body), token, context, outcome_of)
        if isinstance(answer, _FailedCall):
            yield from backoff.wait(context)
            continue
        context.recording.ok(token, None, () if answer is None else (str(answer),))
        context.status.count()
        backoff.reset()


def consume(
    job: ConsumerJob, context: WorkloadContext, *, outcome_of: OutcomeOf, acknowledges: bool, runs_dry: bool = False
) -> Steps:
    """`runs_dry`: once told to stop, the end still hands things out, and says by `Stopped` when it has no more."""
    backoff = _Backoff()
    while runs_dry or not context.stopping:
        token = context.recording.invoke(job.name, Kind.DEQUEUE)
        invoked_ns = context.status.enter(WorkerState.GETTING)
        try:
            received = yield from _call(Operation("get", job.wait_seconds), token, context, outcome_of)
        except Stopped:
            context.recording.ok(token, ())
            return
        if isinstance(received, _FailedCall):
            yield from backoff.wait(context)
        elif received is None:
            context.recording.ok(token, ())
            context.status.idle(invoked_ns)
        else:
            message = _received(job, context, token, received)
            if acknowledges:
                yield from _acknowledge(job, context, message, received, outcome_of)
            backoff.reset()


def _received(job: ConsumerJob, context: WorkloadContext, token: int, received: ReceivedMessage) -> Message:
    if context.status.kill_request is KillRequest.DIE_RECEIVING:
        context.die()
    message = decode_body(job.run, received.body)
    ids = () if received.id is None else (received.id,)
    if message is None:
        message = UNREADABLE
        context.recording.ok(token, (message,), ids, error=repr(received.body[:_SHOWN_BYTES]))
    else:
        context.recording.ok(token, (message,), ids)
    context.status.count()
    if context.status.kill_request is KillRequest.DIE_HOLDING:
        context.die()
    return message


def _acknowledge(
    job: ConsumerJob, context: WorkloadContext, message: Message, received: ReceivedMessage, outcome_of: OutcomeOf
) -> Steps:
    """Where it is unknown whether that happened, do it again, as a consumer should: it can do no harm."""
    backoff = _Backoff()
    while True:
        token = context.recording.invoke(job.name, Kind.ACK, (message,))
        context.status.enter(WorkerState.ACKNOWLEDGING)
        answer = yield from _call(Operation("ack", received.delivery), token, context, outcome_of)
        if answer is False:
            context.recording.fail(token, "the message was no longer ours")
        elif not isinstance(answer, _FailedCall):
            context.recording.ok(token, None, () if received.id is None else (received.id,))
        elif isinstance(answer.error, CONNECTION_ERRORS) and not context.stopping:
            yield from backoff.wait(context)
            continue
        return


class _FailedCall(NamedTuple):
    """The call raised, and the op has been ended accordingly."""

    error: Exception


def _call(
    operation: Operation, token: int, context: WorkloadContext, outcome_of: OutcomeOf
) -> Generator[Operation, Any, Any]:
    """Yield `operation` and return its result, or `_FailedCall` after an error of the network or the server.

    Other errors come from the queue's own code. They are recorded as *unknown* and raised.
    """
    try:
        answer = yield operation
    except Stopped:
        context.check_alive()
        if operation.verb != "get":
            context.recording.info(token, "the queue was stopped")
        raise
    except Exception as error:
        context.check_alive()
        outcome = outcome_of(error)
        if outcome is Outcome.FAIL:
            context.recording.fail(token, _words(error))
        else:
            context.recording.info(token, _words(error))
        if outcome is None:
            raise
        return _FailedCall(error)
    context.check_alive()
    context.status.enter(WorkerState.WORKING)
    return answer


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _wait_until(due_ns: int, context: WorkloadContext) -> Steps:
    context.status.enter(WorkerState.WAITING)
    while not context.stopping and (left_ns := due_ns - time.monotonic_ns()) > 0:
        yield Operation("wait", min(left_ns / 1e9, _SLICE_SECONDS))


class _Backoff:
    def __init__(self) -> None:
        self._seconds = _BACKOFF_SECONDS[0]

    def reset(self) -> None:
        self._seconds = _BACKOFF_SECONDS[0]

    def wait(self, context: WorkloadContext) -> Steps:
        yield from _wait_until(time.monotonic_ns() + int(self._seconds * 1e9), context)
        self._seconds = min(2 * self._seconds, _BACKOFF_SECONDS[1])
