"""The queues' logic without IO: generators that yield commands and are sent the replies.

A queue is written once, as such generators (`QueueLogic`); `bound.py` drives them, for a sync or an asyncio client. An
error is thrown in where the command was yielded. A generator that is closed there must take the outcome for unknown.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeAlias, TypeVar

from redis.exceptions import NoScriptError, RedisError

from pytest_redisq.queues.protocol import Delivery, Gap, Stopped

T = TypeVar("T")
Argument: TypeAlias = bytes | str | int | float


@dataclass(frozen=True, slots=True)
class RedisCommand:
    """One command. `blocks_seconds`: how long the server may block on it; 0 not at all, None without limit."""

    args: tuple[Argument, ...]
    blocks_seconds: float | None = 0.0


#: What the logic is made of: yields commands, is sent replies (RESP2 shapes, bytes), returns a T.
Steps: TypeAlias = Generator[RedisCommand, Any, T]


class QueueLogic(Protocol):
    """One worker's end of a queue, without IO."""

    #: How often `beat` must run while the worker lives, in seconds; None: never.
    beat_seconds: float | None

    def put(self, body: bytes) -> Steps[str | None]: ...

    def subscribe(self) -> Steps[None]:
        """Subscribe: messages put from now on are received."""

    def get(self, timeout_seconds: float | None) -> Steps[Delivery | None]: ...

    def ack(self, delivery: Delivery) -> Steps[bool]: ...

    def give_back(self, delivery: Delivery) -> Steps[None]:
        """Undo a `get`: the message was not processed."""

    def recover(self) -> Steps[int]: ...

    def remaining(self) -> Steps[list[bytes]]: ...

    def pending(self) -> Steps[list[bytes]]: ...

    def trimmed(self) -> Steps[list[Gap]]: ...

    def beat(self) -> Steps[None]:
        """Renew this worker's heartbeat. Runs concurrently with the other methods: uses no state that they change."""

    def leave(self) -> Steps[None]:
        """Sign off this worker, so that other workers get what it holds at once."""


def command(*args: Argument) -> RedisCommand:
    """A command that the server answers at once."""
    return RedisCommand(args)


def nothing(result: T) -> Steps[T]:
    """Steps that take none."""
    return result
    yield command()  # what makes this a generator


def beside(key: str, suffix: str) -> str:
    """A private key that belongs to `key`: it begins with it (ACL patterns, prefixes) and shares its cluster slot.

    No such name exists for a key with a stray brace ("jobs}", "{}jobs"): on a cluster, do not call one so.

    >>> beside("jobs", "workers"), beside("{shop}jobs", "workers")
    ('jobs:workers:{jobs}', '{shop}jobs:workers')
    """
    start = key.find("{")
    has_tag = start >= 0 and key.find("}", start + 1) > start + 1
    return f"{key}:{suffix}" if has_tag else f"{key}:{suffix}:{{{key}}}"


def run(steps: Steps[T], call: Callable[[RedisCommand], Any]) -> T:
    """Drive `steps` to their end; `call` carries out one command. What it raises of Redis, the steps may handle."""
    reply: Any = None
    error: Exception | None = None
    with contextlib.closing(steps):
        while True:
            try:
                step = steps.send(reply) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            reply, error = None, None
            try:
                reply = call(step)
            except (RedisError, Stopped) as caught:
                error = caught


async def run_async(steps: Steps[T], call: Callable[[RedisCommand], Awaitable[Any]]) -> T:
    """`run`, where a command is awaited."""
    reply: Any = None
    error: Exception | None = None
    with contextlib.closing(steps):
        while True:
            try:
                step = steps.send(reply) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            reply, error = None, None
            try:
                reply = await call(step)
            except (RedisError, Stopped) as caught:
                error = caught


def worker_name(worker: str | None) -> str:
    """`worker`, or a name that no other worker has."""
    if worker is None:
        return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    if not worker or "{" in worker or "}" in worker:
        raise ValueError(
            f"worker={worker!r}: a worker's name goes into key names, so it must not be empty nor have braces"
        )
    return worker


def run_script(source: str, keys: tuple[str, ...], args: tuple[Argument, ...] = ()) -> Steps[Any]:
    """Run a Lua script by its digest, and send its text only where the server does not know it."""
    try:
        return (yield script_command(source, keys, args))
    except NoScriptError:
        return (yield command("EVAL", source, len(keys), *keys, *args))


def script_command(source: str, keys: tuple[str, ...], args: tuple[Argument, ...] = ()) -> RedisCommand:
    """What runs a script that the server knows; NoScriptError where it does not."""
    return command("EVALSHA", _digest(source), len(keys), *keys, *args)


@cache
def _digest(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
