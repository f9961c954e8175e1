"""The user's own queue under load: any object with `put`, `get` and perhaps `ack`, one for each worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import redis

from pytest_redisq.check import Contract, Guarantee, Knowledge
from pytest_redisq.endpoint.blocking_endpoint import BlockingEndpoint
from pytest_redisq.endpoint.event_loop import LoopThread
from pytest_redisq.endpoint.forms import EndpointFactory, check_queue, is_async_queue
from pytest_redisq.endpoint.operation_record import ReceivedMessage
from pytest_redisq.load.codec import key_of, now_ns
from pytest_redisq.load.deliveries import Coverage
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import OwnQueueClient
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer
from pytest_redisq.load.engine.load_context import LoadContext, in_order
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.queue_errors import QueueErrors
from pytest_redisq.model import Outcome
from pytest_redisq.queues import Stopped
from pytest_redisq.servers import Address

#: Seconds that one `get` waits. A consumer stops only after a `get` has returned None.
GET_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQueue:
    """A queue of your own, in any form that `pytest_redisq.endpoint.forms` lists but an external command.

    Parameters:

    * `make`: the queue; for example a class whose instances have `put` and `get`, made on the client of each user.
    * `client`: a function of the server's URL that makes a user's client. Default: a client that does not retry, and
      that uses the run's key prefix on an external server.
    * `contract`: what the queue promises; default "at-least-once".
    * `producers`, `consumers`: number of users of each role; default 4.
    * `is_async`: whether the queue has coroutine functions; default: as its `get`, or the second function of a pair.

    After producers have ended, consumers go on until all messages have arrived, or nothing new has for
    `--drain-seconds`; each then ends when a `get` has come back empty. What is left is counted if the queue has
    `remaining` and `pending`; if it has not, what has not been received is called lost.
    """

    make: Any = field(kw_only=False)
    client: Callable[[str], Any] | None = None
    contract: str = "at-least-once"
    producers: int = 4
    consumers: int = 4
    is_async: bool | None = None

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:  # noqa: ARG002
        self._open(assignment).close()  # a queue that cannot be opened ends the run here, before any user tries
        return Ledger()

    def producer(self, context: LoadContext, index: int) -> OwnQueueClient:
        return _PutClient(
            self._open(context.assignment, is_producer=True), context, context.assignment.producer_number(index)
        )

    def consumer(self, context: LoadContext, index: int) -> OwnQueueClient:
        queue = self._open(context.assignment)
        queue.call("subscribe")
        acks = Knowledge.RECORDED if queue.acknowledges else Knowledge.ABSENT
        coverage = Coverage(ids=Knowledge.ABSENT, acks=acks, polls=Knowledge.ABSENT).ordered(in_order(self.contract))
        if Contract.parse(self.contract).guarantee is Guarantee.FAN_OUT:
            return _GetClient(
                queue,
                context.own_delivery_buffer(coverage, reader=f"reader-{context.assignment.first_consumer + index}"),
                context.errors,
            )
        return _GetClient(queue, context.delivery_buffer(coverage), context.errors)

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:  # noqa: ARG002
        """0, since consumers find out by themselves."""
        return 0

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return self._inside(client, assignment, "remaining")

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return self._inside(client, assignment, "pending")

    def _open(self, assignment: Assignment, *, is_producer: bool = False) -> BlockingEndpoint:
        is_async = is_async_queue(self.make) if self.is_async is None else self.is_async
        check_queue(self.make, is_async=is_async)
        prefix = "" if assignment.own_server or self.client is not None else assignment.prefix
        address = Address(url=assignment.url, prefix=prefix)
        return BlockingEndpoint(
            EndpointFactory(queue=self.make, address=address, client=self.client),
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


class _PutClient:
    name = "put queue"
    producing = True

    def __init__(self, queue: BlockingEndpoint, context: LoadContext, number: int) -> None:
        self._queue = queue
        self._ledger = context.ledger
        self._number = number
        self._write = context.codec.writer()
        self._context = context

    def turn(self) -> int:
        sequence = self._ledger.attempt(self._number)
        self._context.put += 1
        try:
            self._queue.put(self._write(key_of(self._number, sequence), now_ns()))
        except Exception as error:
            outcome = self._queue.outcome_of(error)
            (self._ledger.fail if outcome is Outcome.FAIL else self._ledger.forget)(self._number, sequence)
            raise self._context.errors.told("put", error, outcome) from error
        except BaseException:
            self._ledger.forget(self._number, sequence)
            raise
        return 0

    def close(self) -> None:
        self._queue.close()


class _GetClient:
    name = "get queue"
    producing = False

    def __init__(self, queue: BlockingEndpoint, buffer: DeliveryBuffer, errors: QueueErrors) -> None:
        self._queue = queue
        self._buffer = buffer
        self._errors = errors

    def turn(self) -> int | None:
        buffer = self._buffer
        asked = buffer.ask(self)
        try:
            received = self._queue.get(GET_SECONDS)
        except Stopped:
            return None
        except Exception as error:
            outcome = self._queue.outcome_of(error)
            if outcome is not Outcome.FAIL:
                buffer.lose(1)
            raise self._errors.told("get", error, outcome) from error
        except BaseException:
            buffer.lose(1)
            raise
        if received is None:
            return None
        if received.id is not None:
            buffer.name_ids()
        start = len(buffer.keys)
        latency = buffer.take(received.body, now_ns())
        keys = buffer.took(self, asked, start) if buffer.tracks else []
        if self._queue.acknowledges:
            self._acknowledge(received, keys)
        return latency

    def _acknowledge(self, received: ReceivedMessage, keys: list[bytes]) -> None:
        try:
            acknowledged = self._queue.ack(received) is not False  # False: the message was no longer ours
        except BaseException as error:
            self._buffer.ack_failed(keys)
            if not isinstance(error, Exception):
                raise
            raise self._errors.told("ack", error, self._queue.outcome_of(error)) from error
        if acknowledged:
            self._buffer.ack(keys)
        else:
            self._buffer.ack_failed(keys)

    def close(self) -> None:
        self._queue.close()


@cache
def _event_loop() -> LoopThread:
    """The one event loop of this process: gevent runs all its threads in one, which can run one loop at a time."""
    return LoopThread("redisq-load")
