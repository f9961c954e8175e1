"""A queue of JSON text, as a queue that takes any text: each body becomes a JSON string on its way in.

The harness marks its own messages by texts, which are no JSON. So a queue that parses what it is given would
refuse them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from pytest_redisq.endpoint.forms import is_queue


class UnquotedDelivery(NamedTuple):
    """What `get` brought: the text of its JSON string, its id, and the queue's own delivery for `ack`."""

    body: bytes
    id: Any
    delivery: Any


def json_texts(queue: Any, *, is_async: bool) -> Any:
    """Returns `queue`, in whatever form, as one whose bodies are any text. Commands are left as they are."""
    if isinstance(queue, tuple):
        produce, consume = queue
        return (
            partial(_produce_async if is_async else _produce, produce) if callable(produce) else produce,
            partial(_consume_async if is_async else _consume, consume) if callable(consume) else consume,
        )
    if is_queue(queue):
        return _end(queue, is_async=is_async)
    return JsonQueueFactory(queue=queue, is_async=is_async)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonQueueFactory:
    """Makes an end of `queue`, an object with `bind` or a function of a client, that takes any text."""

    queue: Any
    is_async: bool

    def __call__(self, client: Any) -> Any:
        bind: Callable[[Any], Any] | None = None if isinstance(self.queue, type) else getattr(self.queue, "bind", None)
        return _end((bind or self.queue)(client), is_async=self.is_async)


class JsonEnd:
    """An end of a queue of JSON text. It has the optional methods that `inner` has."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        for name in ("stop", "close", "subscribe"):
            if callable(method := getattr(inner, name, None)):
                setattr(self, name, method)
        for name in ("ack", "remaining", "pending"):
            if callable(getattr(inner, name, None)):
                setattr(self, name, getattr(self, f"_{name}"))

    def put(self, body: bytes) -> Any:
        return self.inner.put(_quoted(body))

    def get(self, timeout_seconds: float) -> Any:
        return _unquoted(self.inner.get(timeout_seconds))

    def _ack(self, delivery: UnquotedDelivery) -> Any:
        return self.inner.ack(delivery.delivery)

    def _remaining(self) -> Any:
        return [_text_of(body) for body in self.inner.remaining()]

    def _pending(self) -> Any:
        return [_text_of(body) for body in self.inner.pending()]


class AsyncJsonEnd(JsonEnd):
    """The same for coroutine functions."""

    async def put(self, body: bytes) -> Any:
        return await self.inner.put(_quoted(body))

    async def get(self, timeout_seconds: float) -> Any:
        return _unquoted(await self.inner.get(timeout_seconds))

    async def _remaining(self) -> Any:
        return [_text_of(body) for body in await _awaited(self.inner.remaining())]

    async def _pending(self) -> Any:
        return [_text_of(body) for body in await _awaited(self.inner.pending())]


def _end(inner: Any, *, is_async: bool) -> JsonEnd:
    return AsyncJsonEnd(inner) if is_async else JsonEnd(inner)


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _produce(produce: Callable[..., Any], client: Any, body: bytes) -> Any:
    return produce(client, _quoted(body))


async def _produce_async(produce: Callable[..., Any], client: Any, body: bytes) -> Any:
    return await produce(client, _quoted(body))


def _consume(consume: Callable[..., Any], client: Any, timeout_seconds: float) -> Any:
    return _unquoted(consume(client, timeout_seconds))


async def _consume_async(consume: Callable[..., Any], client: Any, timeout_seconds: float) -> Any:
    return _unquoted(await consume(client, timeout_seconds))


def _quoted(body: bytes) -> bytes:
    return json.dumps(body.decode()).encode()


def _unquoted(delivery: Any) -> UnquotedDelivery | None:
    if delivery is None:
        return None
    body = delivery if isinstance(delivery, (bytes, str)) else delivery.body
    return UnquotedDelivery(_text_of(body), getattr(delivery, "id", None), delivery)


def _text_of(body: bytes | str) -> bytes:
    """The text of a JSON string; what is none is left as it is, for the judge to see."""
    try:
        text = json.loads(body)
    except ValueError:
        text = None
    if isinstance(text, str):
        return text.encode()
    return body.encode() if isinstance(body, str) else body
