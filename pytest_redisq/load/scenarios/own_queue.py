"""The user's own queue under load: any object with `put`, `get` and perhaps `ack`, each end on a client of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from pytest_redisq.check import Contract, Guarantee, Knowledge
from pytest_redisq.load.codec import key_of, now_ns
from pytest_redisq.load.deliveries import Coverage
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import OwnQueueClient
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer
from pytest_redisq.load.engine.load_context import LoadContext, in_order
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.queues.protocol import Acknowledges, Closes, Delivery, ListsMessages, Stopped
from pytest_redisq.servers import Address

#: How long one `get` waits, in seconds; a consumer is not stopped before one has come back empty.
GET_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQueue:
    """`make(client)` gives one worker's end of the queue; `client(url)` the client that it gets, by default one that
    neither loses nor doubles by itself, and on the user's own server keeps to the keys of the run.

    Consumers end when a `get` has come back empty after producers have ended. What is left is counted if the queue has
    `remaining` and `pending`; if it has not, what has not been received is called lost.
    """

    make: Callable[[redis.Redis], Any] = field(kw_only=False)
    client: Callable[[str], redis.Redis] | None = None
    contract: str = "at-least-once"
    producers: int = 4
    consumers: int = 4

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:  # noqa: ARG002
        _close(self._end(assignment))  # one that cannot be made ends the run here, and is not made over and over
        return Ledger()

    def producer(self, context: LoadContext, index: int) -> OwnQueueClient:
        return _PutClient(self._end(context.assignment), context, context.assignment.producer_number(index))

    def consumer(self, context: LoadContext, index: int) -> OwnQueueClient:
        queue = self._end(context.assignment)
        acks = Knowledge.RECORDED if isinstance(queue, Acknowledges) else Knowledge.ABSENT
        coverage = Coverage(ids=Knowledge.ABSENT, acks=acks, polls=Knowledge.ABSENT).ordered(in_order(self.contract))
        if Contract.parse(self.contract).guarantee is Guarantee.FAN_OUT:
            return _GetClient(
                queue,
                context.own_delivery_buffer(coverage, reader=f"reader-{context.assignment.first_consumer + index}"),
            )
        return _GetClient(queue, context.delivery_buffer(coverage))

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:  # noqa: ARG002
        """0, since consumers find out by themselves."""
        return 0

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return self._inside(client, assignment, "remaining")

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return self._inside(client, assignment, "pending")

    def _end(self, assignment: Assignment) -> Any:
        if self.client is not None:
            return self.make(self.client(assignment.url))
        return self.make(
            Address(url=assignment.url, prefix="" if assignment.own_server else assignment.prefix).client()
        )

    def _inside(self, client: redis.Redis, assignment: Assignment, what: str) -> Iterator[bytes]:  # noqa: ARG002
        queue = self._end(assignment)
        try:
            yield from (getattr(queue, what)() if isinstance(queue, ListsMessages) else ())
        finally:
            _close(queue)


class _PutClient:
    name = "put queue"
    producing = True

    def __init__(self, queue: Any, context: LoadContext, number: int) -> None:
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
        except redis.ResponseError:
            self._ledger.fail(self._number, sequence)
            raise
        except BaseException:
            self._ledger.forget(self._number, sequence)
            raise
        return 0

    def close(self) -> None:
        _close(self._queue)


class _GetClient:
    name = "get queue"
    producing = False

    def __init__(self, queue: Any, buffer: DeliveryBuffer) -> None:
        self._queue = queue
        self._buffer = buffer

    def turn(self) -> int | None:
        buffer = self._buffer
        asked = buffer.ask(self)
        try:
            delivery = self._queue.get(GET_SECONDS)
        except Stopped:
            return None
        except BaseException:
            buffer.lose(1)
            raise
        if delivery is None:
            return None
        if isinstance(delivery, Delivery) and delivery.id is not None:
            buffer.name_ids()
        start = len(buffer.keys)
        latency = buffer.take(delivery.body if isinstance(delivery, Delivery) else delivery, now_ns())
        keys = buffer.took(self, asked, start) if buffer.tracks else []
        if isinstance(self._queue, Acknowledges):
            self._acknowledge(delivery, keys)
        return latency

    def _acknowledge(self, delivery: Any, keys: list[bytes]) -> None:
        try:
            acknowledged = self._queue.ack(delivery) is not False  # False: the message was no longer ours
        except BaseException:
            self._buffer.ack_failed(keys)
            raise
        if acknowledged:
            self._buffer.ack(keys)
        else:
            self._buffer.ack_failed(keys)

    def close(self) -> None:
        _close(self._queue)


def _close(queue: Any) -> None:
    if isinstance(queue, Closes):
        queue.close()
