"""What a producer and a consumer do, as steps: one loop each, for run, explore, load and the drain at a run's end.

Steps are a generator that yields operations and is sent their results, or has their errors thrown in. `drivers` carries
them out in a thread, a process, a greenlet, an event loop or under a schedule. Before and after each operation it is
recorded; what lies between the two is the operation alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from enum import IntEnum
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from pytest_redisq.endpoint.operation_record import OperationRecord
from pytest_redisq.endpoint.outcomes import CONNECTION_ERRORS
from pytest_redisq.model import Outcome
from pytest_redisq.queues import Stopped

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True


class WorkerState(IntEnum):
    """What a worker is doing. The words complete "producer-0 …"."""

    STARTING = 0
    READY = 1
    WORKING = 2
    PUTTING = 3
    GETTING = 4
    ACKNOWLEDGING = 5
    WAITING = 6
    ENDED = 7

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    WorkerState.STARTING: "is starting",
    WorkerState.READY: "is ready",
    WorkerState.WORKING: "is between two calls",
    WorkerState.PUTTING: "is in put()",
    WorkerState.GETTING: "is in get()",
    WorkerState.ACKNOWLEDGING: "is in ack()",
    WorkerState.WAITING: "waits for its next turn",
    WorkerState.ENDED: "has ended",
}


class Operation(NamedTuple):
    """A call to make on the worker's endpoint, or a wait (`value` in seconds)."""

    verb: Literal["put", "get", "ack", "wait"]
    value: Any


Steps: TypeAlias = Generator[Operation, Any, None]


class OpenQueue(Protocol):
    """What the steps have to know about the queue that they work on."""

    @property
    def acknowledges(self) -> bool:
        """Whether the queue has an `ack`."""

    @property
    def runs_dry(self) -> bool:
        """Whether it still hands messages out once it is told to stop, and then says by `Stopped` that it has none."""

    def outcome_of(self, error: Exception) -> Outcome | None:
        """Return how the last operation ended, which raised `error`; None if the error comes from the queue's code."""


class WorkloadContext:
    """What a driver has to say about one worker: when it ends, and what happens beside its operations.

    `record`: where its operations are recorded. A driver overrides what it needs of the rest.
    """

    #: After a failed operation a worker waits: at first this long, each time twice as long, up to the second number.
    backoff_seconds: tuple[float, float] = (0.005, 0.2)

    #: No single wait is longer than this, in seconds, so that the worker sees in time that it is to stop.
    slice_seconds: float = 0.05

    #: Whether the last operation raised an error of the network or the server.
    failed: bool = False

    def __init__(self, record: OperationRecord) -> None:
        self.record = record

    @property
    def wait_seconds(self) -> float:
        """What a consumer passes to `get`, in seconds."""
        raise NotImplementedError

    def over(self, *, idle: bool) -> bool:
        """Whether the worker ends before its next operation. `idle`: its last `get` came back with nothing."""
        raise NotImplementedError

    def seconds_until(self, sequence: int) -> float:  # noqa: ARG002
        """The time until the `sequence`-th message is due; 0: now."""
        return 0.0

    def held_seconds(self) -> float:
        """The time for which a consumer asks for no message, for the sake of other consumers; 0: it asks now."""
        return 0.0

    def check_alive(self) -> None:
        """Raise if this worker was killed. Called after each operation, before its end is recorded."""

    def enter(self, state: WorkerState) -> None:
        """The worker is in `state` from now on."""

    def ended(self, error: Exception | None) -> None:
        """An operation has ended, by an error of the network or the server if one is given."""
        self.failed = error is not None

    def sent(self) -> None:
        """A message was put."""

    def received(self) -> None:
        """A message has left the queue, which is not yet recorded."""

    def holding(self) -> None:
        """A message was received, which is recorded; it is not yet acknowledged."""

    def idle(self) -> None:
        """A get came back with nothing."""

    def bears(self, error: Exception) -> bool:  # noqa: ARG002
        """Whether the worker goes on after an error of the queue's own code."""
        return False


def produce(sequences: Iterable[int], context: WorkloadContext, queue: OpenQueue) -> Steps:
    """The steps of a producer that puts the messages with these numbers, each when it is due."""
    backoff = _Backoff(context)
    for sequence in sequences:
        while (seconds := context.seconds_until(sequence)) > 0 and not context.over(idle=False):
            yield from _wait(seconds, context)
        if context.over(idle=False):
            return
        body = context.record.putting(sequence)
        context.enter(WorkerState.PUTTING)
        answer = yield from _call(Operation("put", body), context, queue)
        if isinstance(answer, _FailedCall):
            yield from backoff.wait()
        else:
            context.record.put(answer)
            context.sent()
            backoff.reset()


def consume(context: WorkloadContext, queue: OpenQueue) -> Steps:
    """The steps of a consumer that gets messages, and acknowledges them if the queue has `ack`, until it is over."""
    backoff = _Backoff(context)
    idle = False
    while queue.runs_dry or not context.over(idle=idle):
        if (seconds := context.held_seconds()) > 0:
            yield from _wait(seconds, context)
            continue
        context.record.getting()
        context.enter(WorkerState.GETTING)
        try:
            received = yield from _call(Operation("get", context.wait_seconds), context, queue)
        except Stopped:
            context.record.got(None)
            return
        idle = received is None
        if isinstance(received, _FailedCall):
            yield from backoff.wait()
        elif received is None:
            context.record.got(None)
            context.idle()
        else:
            context.received()
            context.record.got(received)
            context.holding()
            if queue.acknowledges:
                yield from _acknowledge(received.delivery, context, queue)
            backoff.reset()


def _acknowledge(delivery: Any, context: WorkloadContext, queue: OpenQueue) -> Steps:
    """If it is unknown whether the ack happened, it is sent again, as a consumer should: it can do no harm."""
    backoff = _Backoff(context)
    while True:
        context.record.acknowledging()
        context.enter(WorkerState.ACKNOWLEDGING)
        answer = yield from _call(Operation("ack", delivery), context, queue)
        if not isinstance(answer, _FailedCall):
            context.record.acknowledged(answer is not False)
        elif isinstance(answer.error, CONNECTION_ERRORS) and not context.over(idle=False):
            yield from backoff.wait()
            continue
        return


class _FailedCall(NamedTuple):
    """The call raised, and the operation has been ended accordingly."""

    error: Exception


def _call(operation: Operation, context: WorkloadContext, queue: OpenQueue) -> Generator[Operation, Any, Any]:
    """Yield `operation` and return its result, or `_FailedCall` after an error of the network or the server.

    Other errors come from the queue's own code. They are recorded as *unknown* and raised, unless the context bears it.
    """
    try:
        answer = yield operation
    except Stopped as stopped:
        context.check_alive()
        if operation.verb != "get":
            context.record.failed(Outcome.INFO, stopped)
        raise
    except Exception as error:
        context.check_alive()
        outcome = queue.outcome_of(error)
        context.ended(error)
        context.record.failed(outcome, error)
        if outcome is None and not context.bears(error):
            raise
        return _FailedCall(error)
    context.check_alive()
    context.ended(None)
    context.enter(WorkerState.WORKING)
    return answer


def _wait(seconds: float, context: WorkloadContext) -> Steps:
    context.enter(WorkerState.WAITING)
    yield Operation("wait", min(seconds, context.slice_seconds))


class _Backoff:
    def __init__(self, context: WorkloadContext) -> None:
        self._context = context
        self._seconds, self._longest = context.backoff_seconds

    def reset(self) -> None:
        self._seconds = self._context.backoff_seconds[0]

    def wait(self) -> Steps:
        left, self._seconds = self._seconds, min(2 * self._seconds, self._longest)
        while left > 0 and not self._context.over(idle=False):
            yield from _wait(left, self._context)
            left -= self._context.slice_seconds
