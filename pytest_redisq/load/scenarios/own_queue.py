"""The user's own queue under load: any object with `put`, `get` and perhaps `ack`, one for each worker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any, Literal

import redis

from pytest_redisq.check import Contract, Guarantee, Knowledge
from pytest_redisq.endpoint.blocking_endpoint import BlockingEndpoint
from pytest_redisq.endpoint.drivers import drive
from pytest_redisq.endpoint.event_loop import LoopThread
from pytest_redisq.endpoint.forms import EndpointFactory, Form, Gets, check_queue, check_work, is_async_queue
from pytest_redisq.endpoint.jobs import Work
from pytest_redisq.endpoint.operation_record import OperationRecord, ReceivedMessage
from pytest_redisq.endpoint.workload import WorkloadContext, consume, produce
from pytest_redisq.load.codec import key_of, message_of, now_ns
from pytest_redisq.load.deliveries import Coverage
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import OwnQueueClient, Turns
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer
from pytest_redisq.load.engine.epoll_engine import RECONNECT_NS
from pytest_redisq.load.engine.load_context import LoadContext, in_order, is_bounded
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.model import UNREADABLE, Message, Outcome
from pytest_redisq.search import declared_bound
from pytest_redisq.servers import Address

#: Seconds that one `get` waits. A consumer stops only after a `get` has returned None.
GET_SECONDS = 0.5
#: The same for the consumer that takes what comes back at the end of a run.
RECOVERY_GET_SECONDS = 0.1
#: A consumer that is to end does so after so many exceptions of the queue's code in a row.
_MISTAKES = 20
#: Why a load run cannot open a queue of such a form.
_CANNOT: Mapping[Form | None, str] = {
    Form.COMMAND: "a load run cannot drive it, for its lines are not measured. Test it with run()."
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQueue:
    """A queue of your own, in any form that `pytest_redisq.endpoint.forms` lists but an external command.

    Parameters:

    * `make`: the queue; for example a class whose instances have `put` and `get`, made on the client of each user.
    * `client`: a function of the server's URL that makes a user's client. Default: a client that does not retry, and
      that uses the run's key prefix on an external server.
    * `contract`: what the queue promises; default "at-least-once".
    * `producers`, `consumers`: number of users of each role; default 4.
    * `is_async`: whether the queue has coroutine functions; default: detected from the functions, or from the methods
      of a class.
    * `work`: what a consumer does with each message before it acknowledges it: seconds, or a function of the `Message`
      that may raise. Work that raises has failed, and the message is not acknowledged; default 0.
    * `gets`: what the queue's class or functions are called with: "client" (default) or "url".

    After producers have ended, consumers go on until all messages have arrived, or nothing new has for
    `--drain-seconds`; each then ends when a `get` has come back empty. What is left is counted if the queue has
    `remaining` and `pending`; what else is missing is looked for in all keys, after the leases there have run out.
    """

    make: Any = field(kw_only=False)
    client: Callable[[str], Any] | None = None
    contract: str = "at-least-once"
    producers: int = 4
    consumers: int = 4
    is_async: bool | None = None
    gets: Gets = "client"
    work: Work = 0.0

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:  # noqa: ARG002
        self._open(assignment).close()  # a queue that cannot be opened ends the run here, before any user tries
        return Ledger()

    def producer(self, context: LoadContext, index: int) -> OwnQueueClient:
        endpoint = self._open(context.assignment, is_producer=True)
        context.ledger.newest.keeps = declared_bound(self.make) or 1
        return _QueueWorker(endpoint, context, number=context.assignment.producer_number(index), buffer=None)

    def consumer(self, context: LoadContext, index: int) -> OwnQueueClient:
        endpoint = self._open(context.assignment)
        if is_bounded(self.contract):
            endpoint.fence.find = context.find
        endpoint.call("subscribe")
        acks = Knowledge.RECORDED if endpoint.acknowledges or callable(self.work) else Knowledge.ABSENT
        coverage = Coverage(ids=Knowledge.ABSENT, acks=acks, polls=Knowledge.ABSENT).ordered(in_order(self.contract))
        if Contract.parse(self.contract).guarantee is Guarantee.FAN_OUT:
            reader = f"reader-{context.assignment.first_consumer + index}"
            buffer = context.own_delivery_buffer(coverage, reader=reader)
        else:
            buffer = context.delivery_buffer(coverage)
        return _QueueWorker(endpoint, context, buffer=buffer, work=self.work)

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:  # noqa: ARG002
        """0, since consumers find out by themselves."""
        return 0

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return self._inside(client, assignment, "remaining")

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return self._inside(client, assignment, "pending")

    def recovered(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        """The bodies that one more consumer gets, and acknowledges, until it has asked in vain, or has an error."""
        queue = self._open(assignment)
        with contextlib.closing(queue), contextlib.suppress(redis.RedisError):
            queue.call("recover")
            while (received := queue.get(RECOVERY_GET_SECONDS)) is not None:
                yield received.body
                if queue.acknowledges:
                    queue.ack(received)

    def prefix(self, assignment: Assignment) -> str:
        """What the users' clients put before each key. A client of the user's own puts nothing before it."""
        return "" if assignment.own_server or self.client is not None else assignment.prefix

    def _open(self, assignment: Assignment, *, is_producer: bool = False) -> BlockingEndpoint:
        check_queue(self.make, is_async=self.is_async, cannot=_CANNOT)
        is_async = is_async_queue(self.make, is_producer=is_producer) if self.is_async is None else self.is_async
        if not is_producer:
            check_work(self.work, is_async=is_async)
        address = Address(url=assignment.url, prefix=self.prefix(assignment))
        return BlockingEndpoint(
            EndpointFactory(queue=self.make, address=address, client=self.client, gets=self.gets),
            "user",
            is_producer=is_producer,
            loop=_event_loop() if is_async else None,
        )

    def _inside(self, client: redis.Redis, assignment: Assignment, what: str) -> Iterator[bytes]:  # noqa: ARG002
        queue = self._open(assignment)
        try:
            yield from queue.listed(what)
        finally:
            queue.close()


class _QueueWorker:
    """A worker of the user's queue: a producer, if it has no buffer for what it receives.

    * `endpoint`: its endpoint.
    * `context`: of the run in this process.
    * `number`: of the producer.
    * `buffer`: where a consumer's deliveries go.
    * `work`: what it does with each.
    """

    def __init__(
        self,
        endpoint: BlockingEndpoint,
        context: LoadContext,
        *,
        buffer: DeliveryBuffer | None,
        number: int = -1,
        work: Work = 0.0,
    ) -> None:
        self.producing: bool = buffer is None
        self.name: str = "put queue" if self.producing else "get queue"
        self._endpoint = endpoint
        self._context = context
        self._number = number
        self._buffer = buffer
        self._work = work

    def work(self, turns: Turns) -> None:
        handed = self._endpoint.fence.handed
        record = _LedgerRecord(self._context, turns, self._number, self._buffer, handed)
        context = _LoadWorkload(record, turns, self._context, self._work, producing=self.producing)
        steps = produce(count(), context, self._endpoint) if self.producing else consume(context, self._endpoint)
        try:
            drive(steps, self._endpoint.perform)
            self._context.ledger.kept_back.update(key_of(*message) for message in handed)
        finally:
            record.give_up(None)
            context.handled()
            self._context.seen |= self._endpoint.fence.seen

    def close(self) -> None:
        self._endpoint.close()


class _LoadWorkload(WorkloadContext):
    """A producer ends when it is told to; a consumer when nothing comes after that, and no other is at work."""

    backoff_seconds = (RECONNECT_NS / 1e9, RECONNECT_NS / 1e9)

    def __init__(
        self, record: OperationRecord, turns: Turns, load_context: LoadContext, work: Work, *, producing: bool
    ) -> None:
        super().__init__(record, work)
        self._turns = turns
        self._load_context = load_context
        self._producing = producing
        self._mistakes = 0

    @property
    def wait_seconds(self) -> float:
        return GET_SECONDS

    def over(self, *, idle: bool) -> bool:
        ends = idle and not self._load_context.at_work
        return self._turns.over() and (ends or self._producing or self._mistakes >= _MISTAKES)

    def seconds_until(self, sequence: int) -> float:
        return self._turns.seconds_until(sequence)

    def received(self) -> None:
        self._mistakes = 0
        if self.work:
            self._load_context.at_work.add(id(self))

    def handled(self) -> None:
        self._load_context.at_work.discard(id(self))

    def idle(self) -> None:
        self._mistakes = 0

    def bears(self, error: Exception) -> bool:  # noqa: ARG002
        self._mistakes += 1
        return True


class _LedgerRecord:
    """Records the operations of one worker in the ledger of its process, and tells the engine of each."""

    def __init__(
        self,
        context: LoadContext,
        turns: Turns,
        number: int,
        buffer: DeliveryBuffer | None,
        handed: dict[Message, None],
    ) -> None:
        self._handed = handed  # by the server, and not returned by `get` so far
        self._context = context
        self._turns = turns
        self._number = number
        self._write = context.codec.writer()
        self._under_way: Literal["", "put", "get", "ack"] = ""
        self._sequence = self._asked = self._began_ns = 0
        self._keys: list[bytes] = []
        if buffer is not None:
            self._buffer = buffer
            self._log = context.open_log()

    def putting(self, sequence: int) -> bytes:  # noqa: ARG002  the ledger counts by itself
        self._sequence = self._context.ledger.attempt(self._number)
        self._began_ns = time.time_ns()
        self._context.put += 1
        self._under_way = "put"
        self._turns.begin()
        return self._write(key_of(self._number, self._sequence), now_ns())

    def put(self, queue_id: str | None) -> None:  # noqa: ARG002
        self._under_way = ""
        moment_ns = time.time_ns()
        self._context.ledger.newest.add(self._number, self._sequence, self._began_ns, moment_ns)
        self._context.ledger.logs.count_put(moment_ns)
        self._turns.done(0)

    def getting(self) -> None:
        self._asked = self._buffer.ask(self)
        self._log.asks(time.time_ns())
        self._under_way = "get"
        self._turns.begin()

    def got(self, received: ReceivedMessage | None) -> None:
        self._under_way = ""
        moment_ns = time.time_ns()
        if received is None:
            self._log.ended(moment_ns)
            self._turns.idle()
            return
        self._log.took(moment_ns)
        self._context.ledger.logs.count_taken(moment_ns)
        buffer = self._buffer
        if received.id is not None:
            buffer.name_ids()
        start = len(buffer.keys)
        latency = buffer.take(received.body, now_ns())
        for key in buffer.keys[start:] if self._handed else ():
            self._handed.pop(message_of(int.from_bytes(key, "little")), None)
        self._keys = buffer.took(self, self._asked, start) if buffer.tracks else []
        self._turns.done(latency)

    @property
    def message(self) -> Message:
        return message_of(int.from_bytes(self._keys[0], "little")) if self._keys else UNREADABLE

    def work_failed(self, error: Exception) -> None:
        self._buffer.fail(self, self._keys, ack=False)
        self._turns.failed(error)

    def acknowledging(self) -> None:
        self._under_way = "ack"

    def acknowledged(self, accepted: bool) -> None:
        self._under_way = ""
        if accepted:
            self._buffer.ack(self._keys)
        else:
            self._buffer.fail(self, self._keys, ack=True)

    def failed(self, outcome: Outcome | None, error: Exception) -> None:
        verb = self._under_way
        if verb == "get":
            self._log.ended(time.time_ns())
        self.give_up(outcome)
        self._turns.failed(self._context.errors.told(verb, error, outcome))

    def give_up(self, outcome: Outcome | None) -> None:
        """End the operation under way, if any, with this outcome: it failed, or its outcome is unknown."""
        verb, self._under_way = self._under_way, ""
        ledger = self._context.ledger
        if verb == "put":
            (ledger.fail if outcome is Outcome.FAIL else ledger.forget)(self._number, self._sequence)
        elif verb == "get" and outcome is not Outcome.FAIL:
            self._buffer.lose(1)
        elif verb == "ack" and outcome is Outcome.FAIL:
            self._buffer.fail(self, self._keys, ack=True)
        elif verb == "ack":
            self._buffer.ack_failed(self._keys)


@cache
def _event_loop() -> LoopThread:
    """The one event loop of this process: gevent runs all its threads in one, which can run one loop at a time."""
    return LoopThread("redisq-load")
