"""The queues' logic without IO: generators that yield commands and receive the replies.

Each queue is written once, as such generators (`QueueLogic`). `bound.py` drives them, for a sync or an asyncio client.
The driver throws an error into the generator where the command was yielded. If it closes the generator there, the
outcome of the command is unknown.
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
    """One command.

    `blocks_seconds`: how long the server may block on it, in seconds; 0: not at all (default); None: without limit.
    """

    args: tuple[Argument, ...]
    blocks_seconds: float | None = 0.0


#: Yields commands, receives their replies (in RESP2 shapes, as bytes), and returns a T.
Steps: TypeAlias = Generator[RedisCommand, Any, T]


class QueueLogic(Protocol):
    """One worker's access to a queue, without IO. The methods of the same name in `BoundQueue` say what they do."""

    #: Seconds between two calls of `beat` while the worker lives; None: no `beat` is needed.
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
        """Renew this worker's heartbeat. Runs concurrently with the other methods, so it uses no state they change."""

    def leave(self) -> Steps[None]:
        """Sign off this worker: other workers can take over its messages at once."""


def command(*args: Argument) -> RedisCommand:
    """A command that the server answers at once."""
    return RedisCommand(args)


def nothing(result: T) -> Steps[T]:
    """Steps without commands. Returns `result`."""
    return result
    yield command()  # makes this function a generator


def beside(key: str, suffix: str) -> str:
    """The name of a private key that belongs to `key`. It starts with `key`, for ACL patterns and key prefixes.

    In a cluster both are in the same slot, except if `key` has an unpaired or empty brace ("jobs}", "{}jobs").

    >>> beside("jobs", "workers"), beside("{shop}jobs", "workers")
    ('jobs:workers:{jobs}', '{shop}jobs:workers')
    """
    start = key.find("{")
    has_tag = start >= 0 and key.find("}", start + 1) > start + 1
    return f"{key}:{suffix}" if has_tag else f"{key}:{suffix}:{{{key}}}"


def run(steps: Steps[T], call: Callable[[RedisCommand], Any]) -> T:
    """Drive `steps` to their end; returns their result.

    `call`: sends one command and returns its reply. A RedisError or `Stopped` that it raises is thrown into the steps.
    """
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
    """`run` with a `call` that is awaited."""
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
    """Returns `worker`, or a unique name if it is None. Raises ValueError for a name that cannot be part of a key."""
    if worker is None:
        return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    if not worker or "{" in worker or "}" in worker:
        raise ValueError(
            f"worker={worker!r}: the name becomes a part of key names, so it must not be empty or contain braces"
        )
    return worker


def run_script(source: str, keys: tuple[str, ...], args: tuple[Argument, ...] = ()) -> Steps[Any]:
    """Run a Lua script by its digest; returns the reply. Sends the text only if the server does not have the script."""
    try:
        return (yield script_command(source, keys, args))
    except NoScriptError:
        return (yield command("EVAL", source, len(keys), *keys, *args))


def script_command(source: str, keys: tuple[str, ...], args: tuple[Argument, ...] = ()) -> RedisCommand:
    """The command that runs a cached script. The server replies NOSCRIPT (NoScriptError) if it does not have it."""
    return command("EVALSHA", _digest(source), len(keys), *keys, *args)


@cache
def _digest(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
