"""What a producer and a consumer do, without IO: one logic, driven for threads and processes and for asyncio tasks.

A worker is a generator that yields what is to be done with its end of the queue and is sent the result, or has the
error thrown in. Around each call it records an invocation and an end; what lies between the two is the call alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pytest_redisq.history import Recording
from pytest_redisq.model import UNREADABLE, Kind, Message, decode_body, encode_body
from pytest_redisq.queues import Stopped
from pytest_redisq.traffic.board import Order, Slot, State
from pytest_redisq.traffic.plan import ConsumerJob, ProducerJob

#: Errors after which nobody knows whether the call took effect.
_UNKNOWN = (RedisConnectionError, RedisTimeoutError, OSError, EOFError)
#: After such an error a worker waits, at first this long and each time twice as long, up to the second number.
_BACKOFF_SECONDS = (0.005, 0.2)
#: No single wait of a worker is longer than this, so that it sees in time that it is to stop.
_SLICE_SECONDS = 0.05
#: How much of a body that is not ours is shown.
_SHOWN_BYTES = 60


class Killed(BaseException):
    """This worker has been killed: it does nothing any more, and records nothing."""


class Do(NamedTuple):
    """A call to make upon the worker's end of the queue, or a wait (`value` in seconds)."""

    verb: Literal["put", "get", "ack", "wait"]
    value: Any


Steps: TypeAlias = Generator[Do, Any, None]


class Receipt(NamedTuple):
    """What `get` came back with: its body and id, and the thing itself, as `ack` wants it."""

    body: bytes
    id: str | None
    itself: Any


@dataclass(slots=True, kw_only=True)
class Desk:
    """What a worker has at hand. `die` kills it (a process: for good; a thread or task: by raising `Killed`)."""

    slot: Slot
    recording: Recording
    die: Callable[[], None]
    stopping: bool = False
    dead: bool = False
    started_ns: int = field(default=0)

    def alive(self) -> None:
        """Raises `Killed` where this worker has been killed meanwhile; asked after each call, before it is recorded."""
        if self.dead:
            raise Killed


def produce(job: ProducerJob, desk: Desk) -> Steps:
    backoff = _Backoff()
    for sequence in range(job.messages):
        if job.pace is not None:
            yield from _wait_until(desk.started_ns + int(job.pace.due_seconds(sequence, job.producers) * 1e9), desk)
        if desk.stopping:
            return
        message = Message(job.producer, sequence)
        body = encode_body(job.run, message, job.payload_for(message))
        token = desk.recording.invoke(job.name, Kind.ENQUEUE, (message,))
        desk.slot.enter(State.PUTTING)
        answer = yield from _call(Do("put", body), token, desk)
        if isinstance(answer, _Failed):
            yield from backoff.wait(desk)
            continue
        desk.recording.ok(token, None, () if answer is None else (str(answer),))
        desk.slot.count()
        backoff.reset()


def consume(job: ConsumerJob, desk: Desk, *, acknowledges: bool, runs_dry: bool = False) -> Steps:
    """`runs_dry`: once told to stop, the end still hands things out, and says by `Stopped` when it has no more."""
    backoff = _Backoff()
    while runs_dry or not desk.stopping:
        token = desk.recording.invoke(job.name, Kind.DEQUEUE)
        invoked_ns = desk.slot.enter(State.GETTING)
        try:
            receipt = yield from _call(Do("get", job.wait_seconds), token, desk)
        except Stopped:
            desk.recording.ok(token, ())
            return
        if isinstance(receipt, _Failed):
            yield from backoff.wait(desk)
        elif receipt is None:
            desk.recording.ok(token, ())
            desk.slot.idle(invoked_ns)
        else:
            message = _received(job, desk, token, receipt)
            if acknowledges:
                yield from _acknowledge(job, desk, message, receipt)
            backoff.reset()


def _received(job: ConsumerJob, desk: Desk, token: int, receipt: Receipt) -> Message:
    if desk.slot.ordered is Order.DIE_RECEIVING:
        desk.die()
    message = decode_body(job.run, receipt.body)
    ids = () if receipt.id is None else (receipt.id,)
    if message is None:
        message = UNREADABLE
        desk.recording.ok(token, (message,), ids, error=repr(receipt.body[:_SHOWN_BYTES]))
    else:
        desk.recording.ok(token, (message,), ids)
    desk.slot.count()
    if desk.slot.ordered is Order.DIE_HOLDING:
        desk.die()
    return message


def _acknowledge(job: ConsumerJob, desk: Desk, message: Message, receipt: Receipt) -> Steps:
    """Where it is unknown whether that happened, do it again, as a consumer should: it can do no harm."""
    backoff = _Backoff()
    while True:
        token = desk.recording.invoke(job.name, Kind.ACK, (message,))
        desk.slot.enter(State.ACKNOWLEDGING)
        answer = yield from _call(Do("ack", receipt.itself), token, desk)
        if answer is False:
            desk.recording.fail(token, "the message was no longer ours")
        elif not isinstance(answer, _Failed):
            desk.recording.ok(token, None, () if receipt.id is None else (receipt.id,))
        elif isinstance(answer.error, _UNKNOWN) and not desk.stopping:
            yield from backoff.wait(desk)
            continue
        return


class _Failed(NamedTuple):
    """The call raised, and the op has been ended accordingly."""

    error: Exception


def _call(do: Do, token: int, desk: Desk) -> Generator[Do, Any, Any]:
    """The call's result, or `_Failed` after an error of the network or the server; others are the queue's, and pass."""
    try:
        answer = yield do
    except Stopped:
        desk.alive()
        if do.verb != "get":
            desk.recording.info(token, "the queue was stopped")
        raise
    except ResponseError as error:
        desk.alive()
        desk.recording.fail(token, _words(error))
        return _Failed(error)
    except _UNKNOWN as error:
        desk.alive()
        desk.recording.info(token, _words(error))
        return _Failed(error)
    except Exception as error:
        desk.alive()
        desk.recording.info(token, _words(error))
        raise
    desk.alive()
    desk.slot.enter(State.WORKING)
    return answer


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _wait_until(due_ns: int, desk: Desk) -> Steps:
    desk.slot.enter(State.WAITING)
    while not desk.stopping and (left_ns := due_ns - time.monotonic_ns()) > 0:
        yield Do("wait", min(left_ns / 1e9, _SLICE_SECONDS))


class _Backoff:
    def __init__(self) -> None:
        self._seconds = _BACKOFF_SECONDS[0]

    def reset(self) -> None:
        self._seconds = _BACKOFF_SECONDS[0]

    def wait(self, desk: Desk) -> Steps:
        yield from _wait_until(time.monotonic_ns() + int(self._seconds * 1e9), desk)
        self._seconds = min(2 * self._seconds, _BACKOFF_SECONDS[1])
