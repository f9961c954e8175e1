"""How a worker opens a queue, whatever its form. Every driver asks here, so that a form means the same everywhere.

A queue may be given as

* an object with `bind(client)`, as the supplied ones have: each worker gets an end of its own;
* a class or function that makes a queue out of a client (or, with `gets="url"`, out of the server's URL), called once
  by each worker;
* an object with `put(body)`, `get(timeout_seconds)` and perhaps `ack(delivery)`, `nack(delivery)` (the work on it has
  failed), `remaining()`, `pending()`, `stop()`, `close()`: all workers use it (in other processes: a copy of it);
* a pair `(produce, consume)`: `produce(client, body) -> id or None`, `consume(client, timeout_seconds) -> body or
  None`, either of which may be a `Command`.

`get` and `consume` return None when nothing came in time, else the body, as bytes or str or as the `body` of any object
(whose `id`, if it has one, is the queue's own name for it). All of these may be coroutine functions.

| form | run | explore | load |
|---|---|---|---|
| object with `bind`, class, function, pair of functions | yes | yes | yes |
| object that all workers use | yes | no: all would share one connection | yes |
| external command | yes | no | no |
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeVar

from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.jobs import ClientFactory, Work
from pytest_redisq.endpoint.operation_record import ReceivedMessage
from pytest_redisq.endpoint.outcomes import outcome_of
from pytest_redisq.endpoint.subprocess_workers import Command, CommandConsumer, CommandProducer
from pytest_redisq.endpoint.user_code import check_function, check_methods
from pytest_redisq.endpoint.workload import Operation
from pytest_redisq.errors import QueueMisuseError
from pytest_redisq.model import Outcome
from pytest_redisq.servers import Address

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True

T = TypeVar("T")
#: What a class, a function or a pair of functions is called with: a client, or the server's URL.
Gets = Literal["client", "url"]


class Form(StrEnum):
    """A form of a queue, or of one half of a pair."""

    BINDS = "an object with bind(client)"
    MAKES = "a class or function that makes a queue"
    SHARED = "an object that all workers use"
    FUNCTION = "a function of a pair"
    COMMAND = "an external command"


def side_of(queue: Any, *, is_producer: bool) -> Any:
    """One half of a pair; the queue itself in other forms."""
    return queue[not is_producer] if isinstance(queue, tuple) and len(queue) == 2 else queue


def form_of(queue: Any, *, is_producer: bool) -> Form | None:
    """The form in which a producer, or a consumer, gets `queue`; None: it is no queue."""
    side = side_of(queue, is_producer=is_producer)
    match side:
        case Command():
            return Form.COMMAND if isinstance(queue, tuple) else None
        case _ if side is not queue:
            return Form.FUNCTION if callable(side) else None
        case type():
            return Form.MAKES
        case _ if _has(side, "bind"):
            return Form.BINDS
        case _ if is_queue(side):
            return Form.SHARED
    return Form.MAKES if callable(side) else None


def is_async_queue(queue: Any, *, is_producer: bool = False) -> bool:
    """Whether a producer's, or a consumer's, side of the queue has coroutine functions, as far as its form shows."""
    side = side_of(queue, is_producer=is_producer)
    verb = "put" if is_producer else "get"
    return inspect.iscoroutinefunction(side if side is not queue else getattr(queue, verb, None))


def check_queue(queue: Any, *, is_async: bool | None = None, cannot: Mapping[Form | None, str] | None = None) -> None:
    """Check that `queue` has a form that a driver can open.

    * `is_async`: whether its functions must be coroutine functions; default: as they are.
    * `cannot`: why the driver cannot do a form.

    Errors: TypeError, with the ways to say it, for an object that is no queue, and for a form that the driver cannot
    do; ValueError for plain functions where there must be coroutine functions, and the reverse.
    """
    for is_producer in (True, False):
        form = form_of(queue, is_producer=is_producer)
        if form is None:
            raise TypeError(
                f"{queue!r} is no queue. Give an object with put(body) and get(timeout_seconds), perhaps "
                "ack(delivery), stop() and close(); one with bind(client) that returns such an object; a class or "
                "function of a client that does; or a tuple (produce, consume) of functions or Commands."
            )
        if cannot and form in cannot:
            raise TypeError(f"{side_of(queue, is_producer=is_producer)!r} is {form}: {cannot[form]}")
        side = side_of(queue, is_producer=is_producer)
        if form is Form.FUNCTION:
            check_function(side, is_producer=is_producer)
        elif form is Form.SHARED or isinstance(side, type):
            check_methods(side if isinstance(side, type) else type(side))
        if is_async is not None:
            _check_colour(queue, form, is_producer=is_producer, is_async=is_async)


def _check_colour(queue: Any, form: Form, *, is_producer: bool, is_async: bool) -> None:
    side = side_of(queue, is_producer=is_producer)
    function = side if form is Form.FUNCTION else getattr(side, "put" if is_producer else "get", None)
    coloured = inspect.iscoroutinefunction(function)
    # What a class will make is not here to be seen, but this much is certain.
    known = form in (Form.FUNCTION, Form.SHARED) or (form is Form.MAKES and coloured)
    if known and coloured is not is_async:
        raise ValueError(_WRONG_COLOUR[is_async].format(function))


_WRONG_COLOUR = {
    True: 'workers="asyncio" needs coroutine functions, and {!r} is none: make it one, or use workers="thread".',
    False: '{!r} is a coroutine function: give workers="asyncio" to run() for it.',
}


def check_work(work: Work, *, is_async: bool) -> None:
    """Check what consumers are to do with each message.

    Errors: TypeError for what is neither seconds nor a function; ValueError for a negative time, and for a coroutine
    function if the queue has plain functions.
    """
    if callable(work):
        if inspect.iscoroutinefunction(work) and not is_async:
            raise ValueError(f"work={work!r} is a coroutine function, and the queue has plain functions")
    elif isinstance(work, bool) or not isinstance(work, int | float):
        raise TypeError(f"work={work!r} is to be seconds, or a function of a message")
    elif not 0 <= work < float("inf"):
        raise ValueError(f"work={work!r} is to be at least 0 seconds")


_UNDECLARED = (
    "{!r} returned an awaitable, but this queue's functions are called as plain functions. "
    'Pass is_async=True for it, or workers="asyncio" to run().'
)


def is_queue(candidate: object) -> bool:
    """Whether `candidate` has `put` and `get`. A class has not: it makes a queue."""
    return not isinstance(candidate, type) and _has(candidate, "put") and _has(candidate, "get")


def _has(candidate: object, method: str) -> bool:
    return callable(getattr(candidate, method, None))


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFactory:
    """Opens endpoints of a queue; picklable if `queue` and `client` are.

    * `queue`: in any form.
    * `address`: the server.
    * `client`: a function of the URL that makes a worker's client; default: one that neither times out nor retries.
    * `client_names`: what the names of the clients begin with, so that a fault can find their connections; default:
      they have none.
    * `gets`: what a class or function is called with: "client" (default) or "url".
    """

    queue: Any
    address: Address
    client: ClientFactory | None = None
    client_names: str = ""
    gets: Gets = "client"

    def open(self, name: str, *, is_producer: bool, is_async: bool, fence: Fence) -> QueueEndpoint:
        """Open an endpoint for the worker `name`. `fence` watches its connections."""
        side = side_of(self.queue, is_producer=is_producer)
        if form_of(self.queue, is_producer=is_producer) is Form.COMMAND:
            start = CommandProducer if is_producer else CommandConsumer
            return QueueEndpoint(start(side, self.address.url, name), None, fence)
        if self.gets == "url":
            return open_endpoint(self.queue, self.address.url, is_producer=is_producer, fence=fence)
        return open_endpoint(
            self.queue, lambda: self._connect(name, is_async=is_async), is_producer=is_producer, fence=fence
        )

    def _connect(self, name: str, *, is_async: bool) -> Any:
        if self.client is not None:
            return self.client(self.address.url)
        options = {"client_name": f"{self.client_names}{name}"} if self.client_names else {}
        return self.address.async_client(**options) if is_async else self.address.client(**options)


def open_endpoint(
    queue: Any, given: str | Callable[[], Any], *, is_producer: bool, fence: Fence, owned: bool = True
) -> QueueEndpoint:
    """Open one side of a queue that is no command.

    * `given`: makes the worker's client, or the URL, which the queue is called with. Not used by a shared object.
    * `fence`: counts the client's commands.
    * `owned`: whether the endpoint closes the client when it is closed.
    """
    side, form = side_of(queue, is_producer=is_producer), form_of(queue, is_producer=is_producer)
    if form is Form.SHARED:
        return QueueEndpoint(side, None, fence, shared=True)
    client = None if isinstance(given, str) else given()
    if client is not None:
        fence.guard(client)
    argument = given if client is None else client
    match form:
        case Form.FUNCTION:
            opened: Any = _FunctionQueue(side, argument)
        case Form.BINDS:
            opened = side.bind(argument)
        case _:
            opened = side(argument)
            if not is_queue(opened):
                raise QueueMisuseError(
                    f"{side!r} was to make a queue out of a client, and returned {opened!r}: no put() and get()."
                )
            check_methods(type(opened))
    return QueueEndpoint(opened, client, fence, closes_client=owned)


class QueueEndpoint:
    """A worker's access to a queue, in one form for all queues.

    * `queue`: the queue, opened. `client`: the worker's own; None: it has none that is known.
    * `fence`: counts the commands of the client.
    * `shared`: other workers use the same object, which is therefore not closed here.
    * `closes_client`: whether `close` closes the client.
    """

    def __init__(
        self, queue: Any, client: Any, fence: Fence, *, shared: bool = False, closes_client: bool = True
    ) -> None:
        self.queue: Any = queue
        self.acknowledges: bool = _has(queue, "ack")
        self.nacks: bool = _has(queue, "nack")
        self.runs_dry: bool = isinstance(queue, CommandConsumer)
        self._client = client
        self.fence: Fence = fence
        self._shared = shared
        self._closes_client = closes_client

    def outcome_of(self, error: Exception) -> Outcome | None:
        """Return how the last operation ended, which raised `error`; None if the error comes from the queue's code."""
        return outcome_of(error, commands=None if self._client is None else self.fence.commands)

    def perform(self, operation: Operation) -> Any:
        """Do an operation on a queue of plain functions, or wait. Returns what the steps are to be sent."""
        verb, value = operation
        if verb == "wait":
            return time.sleep(value)
        if verb == "work":
            function, message = value
            return function(message)
        function = getattr(self.queue, verb)
        self.fence.commands = 0
        answer = function(value)
        if hasattr(answer, "__await__"):
            if inspect.iscoroutine(answer):
                answer.close()
            raise QueueMisuseError(_UNDECLARED.format(function))
        return _RESULTS[verb](answer)

    async def perform_async(self, operation: Operation) -> Any:
        """Do an operation on a queue of coroutine functions, or wait. Returns what the steps are to be sent."""
        verb, value = operation
        if verb == "wait":
            return await asyncio.sleep(value)
        if verb == "work":
            function, message = value
            return await awaited(function(message))
        function = getattr(self.queue, verb)
        self.fence.commands = 0
        answer = function(value)
        if not inspect.isawaitable(answer):
            raise QueueMisuseError(_WRONG_COLOUR[True].format(function))
        return _RESULTS[verb](await answer)

    def call(self, method: str) -> Any:
        """What the queue's `method()` returns, perhaps an awaitable; None if it has none."""
        function = getattr(self.queue, method, None)
        return function() if callable(function) else None

    def subscribe(self) -> Any:
        """If the queue has readers, start to read here. May return an awaitable."""
        return self.call("subscribe")

    def stop(self) -> Any:
        """End a `get` under way, if the queue can; from any thread. May return an awaitable."""
        return self.call("stop")

    def kill(self) -> None:
        """If the worker is a command, end it by SIGKILL."""
        if isinstance(self.queue, (CommandProducer, CommandConsumer)):
            self.queue.kill()

    def close(self) -> None:
        if not self._shared:
            self.call("close")
        if self._client is not None and self._closes_client:
            self._client.close()

    async def close_async(self) -> None:
        if not self._shared:
            await awaited(self.call("close"))
        if self._client is not None and self._closes_client:
            await self._client.aclose()


async def awaited(value: Awaitable[T] | T) -> T:
    return await value if inspect.isawaitable(value) else value


class _FunctionQueue:
    """One function of a pair as the `put` and the `get` of a queue, with the worker's client."""

    def __init__(self, function: Callable[..., Any], argument: Any) -> None:
        self._function = function
        self._argument = argument

    def put(self, value: Any) -> Any:
        return self._function(self._argument, value)

    get = put


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
        raise QueueMisuseError(
            f"get() returned {delivery!r}: it is to return None, the body (bytes or str), or an object with a `body`"
        )
    return ReceivedMessage(body, id_of(getattr(delivery, "id", None)), delivery)


#: What becomes of what a queue's method returned, by the method's name.
_RESULTS: Mapping[str, Callable[[Any], Any]] = {
    "put": id_of,
    "get": message_of,
    "ack": lambda answer: answer,
    "nack": lambda answer: answer,
}
