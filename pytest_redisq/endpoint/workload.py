"""What a producer and a consumer do, as steps: one loop each, for run, explore, load and the drain at a run's end.

Steps are a generator that yields operations and is sent their results, or has their errors thrown in. `drivers` carries
them out in a thread, a process, a greenlet, an event loop or under a schedule. Before and after each operation it is
recorded; what lies between the two is the operation alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from enum import IntEnum
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.jobs import Work
from pytest_redisq.endpoint.operation_record import OperationRecord
from pytest_redisq.endpoint.outcomes import CONNECTION_ERRORS
from pytest_redisq.model import Message, Outcome
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
    HANDLING = 8

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
    WorkerState.HANDLING: "is at work on a message",
}


class Operation(NamedTuple):
    """A call to make on the worker's endpoint, or a wait (`value` in seconds), or work (a function and a message)."""

    verb: Literal["put", "get", "ack", "nack", "wait", "work"]
    value: Any


Steps: TypeAlias = Generator[Operation, Any, None]


class OpenQueue(Protocol):
    """What the steps have to know about the queue that they work on."""

    @property
    def acknowledges(self) -> bool:
        """Whether the queue has an `ack`."""

    @property
    def nacks(self) -> bool:
        """Whether the queue has a `nack`, by which a consumer says that its work on a message failed."""

    @property
    def runs_dry(self) -> bool:
        """Whether it still hands messages out once it is told to stop, and then says by `Stopped` that it has none."""

    @property
    def fence(self) -> Fence:
        """Watches the connections of its client."""

    def outcome_of(self, error: Exception) -> Outcome | None:
        """Return how the last operation ended, which raised `error`; None if the error comes from the queue's code."""


class WorkloadContext:
    """What a driver has to say about one worker: when it ends, and what happens beside its operations.

    `record`: where its operations are recorded. `work`: what a consumer does with each message; default: nothing. A
    driver overrides what it needs of the rest.
    """

    #: After a failed operation a worker waits: at first this long, each time twice as long, up to the second number.
    backoff_seconds: tuple[float, float] = (0.005, 0.2)

    #: No single wait is longer than this, in seconds, so that the worker sees in time that it is to stop.
    slice_seconds: float = 0.05
    #: The same for the waits of a consumer at work.
    work_slice_seconds: float = 0.05

    #: Whether the last operation raised an error of the network or the server.
    failed: bool = False

    def __init__(self, record: OperationRecord, work: Work = 0.0) -> None:
        self.record = record
        self.work = work

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

    def handled(self) -> None:
        """The consumer has done with a message: it is acknowledged, or the work or the ack failed."""

    def idle(self) -> None:
        """A get came back with nothing, or only with a message on which this consumer's work has failed before."""

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
    given_up = set[Message]()
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
            error = yield from _work(context)
            if error is not None:
                context.record.work_failed(error)
                # A message that comes again and again, and fails each time, must not keep the consumer for ever.
                idle = context.record.message in given_up
                given_up.add(context.record.message)
                yield from _give_back(received.delivery, context, queue)
            elif queue.acknowledges:
                yield from _acknowledge(received.delivery, context, queue)
            context.handled()
            if idle:
                context.idle()
            backoff.reset()


def _work(context: WorkloadContext) -> Generator[Operation, Any, Exception | None]:
    """Do the context's work on the message that was received last. Returns what it raised."""
    work = context.work
    if not work:
        return None
    context.enter(WorkerState.HANDLING)
    if callable(work):
        try:
            yield Operation("work", (work, context.record.message))
        except Exception as error:
            context.check_alive()
            return error
    else:
        left = work
        while left > 0:
            yield Operation("wait", min(left, context.work_slice_seconds))
            context.check_alive()
            left -= context.work_slice_seconds
    context.check_alive()
    return None


def _give_back(delivery: Any, context: WorkloadContext, queue: OpenQueue) -> Steps:
    """Tell the queue that the work failed, if it has a `nack`. If that fails, it is as if the consumer had not told."""
    if not queue.nacks:
        return
    try:
        yield Operation("nack", delivery)
    except Exception as error:
        context.check_alive()
        if queue.outcome_of(error) is None:
            raise
    context.check_alive()


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
