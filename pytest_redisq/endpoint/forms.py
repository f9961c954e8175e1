"""A worker's end of the queue under test, whatever that is.

A queue may be given as

* an object with `bind(client)`, as the supplied ones have: each worker is given an end of its own;
* an object with `put(body)`, `get(timeout_seconds)` and perhaps `ack(delivery)`, `stop()`, `close()`: all workers use
  it (in other processes: a copy of it);
* a function that makes such an object out of a client, called once by each worker;
* a pair `(produce, consume)`: `produce(client, body) -> id or None`, `consume(client, timeout_seconds) -> body or
  None`, either of which may be a `Command`.

`get` and `consume` return None when nothing came in time, else the body, as bytes or str or as the `body` of any object
(whose `id`, if it has one, is the queue's own name for it). With workers="asyncio" all of these are coroutine
functions.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.jobs import ClientFactory
from pytest_redisq.endpoint.outcomes import outcome_of
from pytest_redisq.endpoint.subprocess_workers import Command, CommandConsumer, CommandProducer
from pytest_redisq.endpoint.workload import ReceivedMessage
from pytest_redisq.model import Outcome
from pytest_redisq.servers import Address

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFactory:
    """Where a worker's end comes from; picklable if `queue` and `client` are."""

    queue: Any
    address: Address
    client: ClientFactory | None
    #: So that a fault can find the workers' connections: their clients' names begin with it. Empty: they have none.
    client_names: str


def worker_client(factory: EndpointFactory, name: str, *, is_async: bool) -> Any:
    """The client of one worker: the caller's own, or one that neither times out nor retries."""
    if factory.client is not None:
        return factory.client(factory.address.url)
    options = {"client_name": f"{factory.client_names}{name}"} if factory.client_names else {}
    return factory.address.async_client(**options) if is_async else factory.address.client(**options)


class QueueEndpoint:
    """A worker's access to a queue, in one form for all queues. Asynchronous queues use the methods named `…_async`."""

    def __init__(self, factory: EndpointFactory, name: str, *, is_producer: bool, is_async: bool, fence: Fence) -> None:
        self._client: Any = None
        self._is_async = is_async
        self._fence = fence
        self.queue: Any = self._open(factory, name, is_producer=is_producer)
        self.acknowledges: bool = callable(getattr(self.queue, "ack", None))
        self.runs_dry: bool = isinstance(self.queue, CommandConsumer)

    def _open(self, factory: EndpointFactory, name: str, *, is_producer: bool) -> Any:
        queue = factory.queue
        if isinstance(queue, tuple):
            half = queue[0] if is_producer else queue[1]
            if isinstance(half, Command):
                foreign = CommandProducer if is_producer else CommandConsumer
                return foreign(half, factory.address.url, name)
            return FunctionEndpoint(half, self._connect(factory, name), is_producer=is_producer)
        if _binds(queue):
            return queue.bind(self._connect(factory, name))
        if is_queue(queue):
            return queue
        return _checked(queue(self._connect(factory, name)), queue)

    def _connect(self, factory: EndpointFactory, name: str) -> Any:
        self._client = worker_client(factory, name, is_async=self._is_async)
        self._fence.guard(self._client)
        return self._client

    def outcome_of(self, error: Exception) -> Outcome | None:
        """Return how the last operation ended, which raised `error`; None if the error comes from the queue's code."""
        return outcome_of(error, commands=None if self._client is None else self._fence.commands)

    def put(self, body: bytes) -> str | None:
        self._fence.commands = 0
        return id_of(self.queue.put(body))

    def get(self, wait_seconds: float) -> ReceivedMessage | None:
        self._fence.commands = 0
        return message_of(self.queue.get(wait_seconds))

    async def put_async(self, body: bytes) -> str | None:
        return id_of(await self._awaitable("put", body))

    async def get_async(self, wait_seconds: float) -> ReceivedMessage | None:
        return message_of(await self._awaitable("get", wait_seconds))

    async def ack_async(self, delivery: Any) -> Any:
        return await self._awaitable("ack", delivery)

    def _awaitable(self, method: str, value: Any) -> Awaitable[Any]:
        self._fence.commands = 0
        function = getattr(self.queue, method)
        answer = function(value)
        if not inspect.isawaitable(answer):
            raise TypeError(_WRONG_COLOUR[True].format(function))
        return answer

    def ack(self, delivery: Any) -> Any:
        self._fence.commands = 0
        return self.queue.ack(delivery)

    def subscribe(self) -> Any:
        """Where the queue has readers: be one from now on. May return an awaitable."""
        subscribe = getattr(self.queue, "subscribe", None)
        return subscribe() if callable(subscribe) else None

    def stop(self) -> Any:
        """Make a `get` under way come back, where the queue can; from any thread. May return an awaitable."""
        stop = getattr(self.queue, "stop", None)
        return stop() if callable(stop) else None

    def kill(self) -> None:
        """Where the worker is a command: end it, by SIGKILL."""
        if isinstance(self.queue, (CommandProducer, CommandConsumer)):
            self.queue.kill()

    def close(self) -> None:
        if self._client is None and not isinstance(self.queue, (CommandProducer, CommandConsumer)):
            return  # everybody's, and so not ours to close
        close = getattr(self.queue, "close", None)
        if callable(close):
            close()
        if self._client is not None:
            self._client.close()

    async def close_async(self) -> None:
        if self._client is None:
            return
        close = getattr(self.queue, "close", None)
        if callable(close):
            await awaited(close())
        await self._client.aclose()


async def awaited(value: Awaitable[T] | T) -> T:
    return await value if inspect.isawaitable(value) else value


class FunctionEndpoint:
    """One of a pair of plain functions, with the worker's client."""

    def __init__(self, function: Callable[..., Any], client: Any, *, is_producer: bool) -> None:
        self._function = function
        self._client = client
        setattr(self, "put" if is_producer else "get", self._run)

    def _run(self, value: Any) -> Any:
        return self._function(self._client, value)


def is_queue(candidate: object) -> bool:
    """A class is none: it makes one."""
    return not isinstance(candidate, type) and _has(candidate, "put") and _has(candidate, "get")


def is_async_queue(queue: object) -> bool:
    """Return whether the queue has coroutine functions, as far as its form shows it before it is opened."""
    function = queue[1] if isinstance(queue, tuple) else getattr(queue, "get", None)
    return inspect.iscoroutinefunction(function)


def _binds(candidate: object) -> bool:
    return not isinstance(candidate, type) and _has(candidate, "bind")


def _has(candidate: object, method: str) -> bool:
    return callable(getattr(candidate, method, None))


def check_queue(queue: object, *, is_async: bool) -> None:
    """Raises TypeError, with the ways to say it, for what can be no queue; ValueError for the wrong colour."""
    match queue:
        case tuple((produce, consume)):
            halves = [half for half in (produce, consume) if not isinstance(half, Command)]
            functions = halves if all(map(callable, halves)) else None
        case _ if _binds(queue):
            functions = []
        case _ if is_queue(queue):
            functions = [queue.put, queue.get]  # type: ignore[attr-defined]  # is_queue has looked
        case type() if not is_async:  # what it will make is not here to be seen, but this much is certain
            methods = (getattr(queue, verb, None) for verb in ("put", "get"))
            functions = [method for method in methods if inspect.iscoroutinefunction(method)]
        case _:
            functions = [] if callable(queue) else None
    if functions is None:
        raise TypeError(
            f"{queue!r} is no queue. Give an object with put(body) and get(timeout_seconds), perhaps ack(delivery), "
            "stop() and close(); one with bind(client) that returns such an object; a function of a client that does; "
            "or a tuple (produce, consume) of functions or Commands."
        )
    for function in functions:
        if inspect.iscoroutinefunction(function) is not is_async:
            raise ValueError(_WRONG_COLOUR[is_async].format(function))


_WRONG_COLOUR = {
    True: 'workers="asyncio" needs coroutine functions, and {!r} is none: make it one, or use workers="thread".',
    False: '{!r} is a coroutine function: give workers="asyncio" to run() for it.',
}


def _checked(queue: Any, factory: object) -> Any:
    if not is_queue(queue):
        raise TypeError(f"{factory!r} was to make a queue out of a client, and returned {queue!r}: no put() and get().")
    return queue


def id_of(answer: Any) -> str | None:
    """The id that a put returned; a number (such as a list's length) is none."""
    if isinstance(answer, bytes):
        return answer.decode()
    return answer if isinstance(answer, str) else None


def message_of(delivery: Any) -> ReceivedMessage | None:
    if delivery is None:
        return None
    body = delivery if isinstance(delivery, (bytes, str)) else getattr(delivery, "body", None)
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        raise TypeError(
            f"get() returned {delivery!r}: it is to return None, the body (bytes or str), or an object with a `body`"
        )
    return ReceivedMessage(body, id_of(getattr(delivery, "id", None)), delivery)
