"""The user's own queue under load: any object with `put`, `get` and perhaps `ack`, each end on a client of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

import redis

from pytest_redisq.check import Contract, Guarantee, Knowledge
from pytest_redisq.load.actors import Actor, Inbox
from pytest_redisq.load.deliveries import Coverage
from pytest_redisq.load.desk import Desk, in_order
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.message import key_of, now_ns
from pytest_redisq.load.plan import Plan
from pytest_redisq.queues.protocol import Acknowledges, Closes, Counts, Delivery, Stopped
from pytest_redisq.servers import Address

#: How long one `get` waits, in seconds; a consumer is not stopped before one has come back empty.
GET_SECONDS = 0.5


class Labour(Protocol):
    """One user's work on a queue that speaks to the server by itself; only the engine of Locust users can do it."""

    name: str
    producing: bool

    def turn(self) -> int | None:
        """Put or get one message. Returns as `Actor.reply` does: None if nothing came. Raises what the queue raises."""

    def close(self) -> None: ...


def is_labour(work: Actor | Labour) -> TypeGuard[Labour]:
    """Whether it is not an actor. By one attribute, since it is asked of each of ten thousand."""
    return hasattr(work, "turn")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQueue:
    """`make(client)` gives one worker's end of the queue; `client(url)` the client that it gets, by default one that
    neither loses nor doubles by itself, and on somebody's own server keeps to the keys of the run.

    Consumers end when a `get` has come back empty after producers have ended. What is left is counted if the queue has
    `remaining` and `pending`; if it has not, what has not been received is called lost.
    """

    make: Callable[[redis.Redis], Any] = field(kw_only=False)
    client: Callable[[str], redis.Redis] | None = None
    contract: str = "at-least-once"
    producers: int = 4
    consumers: int = 4

    def prepare(self, client: redis.Redis, plan: Plan) -> Ledger:  # noqa: ARG002
        _close(self._end(plan))  # one that cannot be made ends the run here, and is not made over and over
        return Ledger()

    def producer(self, desk: Desk, index: int) -> Labour:
        return _Putter(self._end(desk.plan), desk, desk.plan.producer_number(index))

    def consumer(self, desk: Desk, index: int) -> Labour:
        queue = self._end(desk.plan)
        acks = Knowledge.RECORDED if isinstance(queue, Acknowledges) else Knowledge.ABSENT
        coverage = Coverage(ids=Knowledge.ABSENT, acks=acks, polls=Knowledge.ABSENT).ordered(in_order(self.contract))
        if Contract.parse(self.contract).guarantee is Guarantee.FAN_OUT:
            return _Getter(queue, desk.own_inbox(coverage, reader=f"reader-{desk.plan.first_consumer + index}"))
        return _Getter(queue, desk.inbox(coverage))

    def backlog(self, client: redis.Redis, plan: Plan) -> int:  # noqa: ARG002
        """0, since consumers find out by themselves."""
        return 0

    def remaining(self, client: redis.Redis, plan: Plan) -> Iterator[bytes]:
        return self._inside(client, plan, "remaining")

    def pending(self, client: redis.Redis, plan: Plan) -> Iterator[bytes]:
        return self._inside(client, plan, "pending")

    def _end(self, plan: Plan) -> Any:
        if self.client is not None:
            return self.make(self.client(plan.url))
        return self.make(Address(url=plan.url, prefix="" if plan.own_server else plan.prefix).client())

    def _inside(self, client: redis.Redis, plan: Plan, what: str) -> Iterator[bytes]:  # noqa: ARG002
        queue = self._end(plan)
        try:
            yield from (getattr(queue, what)() if isinstance(queue, Counts) else ())
        finally:
            _close(queue)


class _Putter:
    name = "put queue"
    producing = True

    def __init__(self, queue: Any, desk: Desk, number: int) -> None:
        self._queue = queue
        self._ledger = desk.ledger
        self._number = number
        self._write = desk.codec.writer()
        self._desk = desk

    def turn(self) -> int:
        sequence = self._ledger.attempt(self._number)
        self._desk.put += 1
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


class _Getter:
    name = "get queue"
    producing = False

    def __init__(self, queue: Any, inbox: Inbox) -> None:
        self._queue = queue
        self._inbox = inbox

    def turn(self) -> int | None:
        inbox = self._inbox
        asked = inbox.ask(self)
        try:
            delivery = self._queue.get(GET_SECONDS)
        except Stopped:
            return None
        except BaseException:
            inbox.lose(1)
            raise
        if delivery is None:
            return None
        if isinstance(delivery, Delivery) and delivery.id is not None:
            inbox.name_ids()
        start = len(inbox.keys)
        latency = inbox.take(delivery.body if isinstance(delivery, Delivery) else delivery, now_ns())
        keys = inbox.took(self, asked, start) if inbox.tracks else []
        if isinstance(self._queue, Acknowledges):
            self._acknowledge(delivery, keys)
        return latency

    def _acknowledge(self, delivery: Any, keys: list[bytes]) -> None:
        try:
            acknowledged = self._queue.ack(delivery) is not False  # False: the message was no longer ours
        except BaseException:
            self._inbox.ack_failed(keys)
            raise
        if acknowledged:
            self._inbox.ack(keys)
        else:
            self._inbox.ack_failed(keys)

    def close(self) -> None:
        _close(self._queue)


def _close(queue: Any) -> None:
    if isinstance(queue, Closes):
        queue.close()
