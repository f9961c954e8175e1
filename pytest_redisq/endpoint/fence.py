"""Watches the connections of one worker: counts its commands, sees what they do and bring, and can cut it off."""

from __future__ import annotations

import inspect
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from pytest_redisq.model import Message
from pytest_redisq.resp import Trait, traits_of

#: Commands that execute several commands of their own.
_SCRIPTS = (b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"FCALL", b"FCALL_RO")

#: The attribute of a fenced class of connections that is its fence.
_FENCE = "_redisq_fence"
#: The attribute of a fenced connection that says whether its last commands take messages, or read them for a reader.
_TAKES = "_redisq_takes"


class Fence:
    """Stands between a worker and the server. `close` cuts a worker in a thread or task off, as its death would."""

    def __init__(self) -> None:
        self.shut: bool = False
        #: Commands sent since an operation set it to 0. The handshake of a new connection does not count.
        self.commands: int = 0
        #: What its commands have done.
        self.seen: Trait = Trait.NONE
        self._last_traits = Trait.NONE
        #: Finds the messages in a value of the server; None: no reply is looked at.
        self.find: Callable[[bytes], Iterable[Message]] | None = None
        #: The messages that the server has handed to this worker, and that it has not returned so far; as keys.
        self.handed: dict[Message, None] = {}
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._connecting: weakref.WeakSet[Any] = weakref.WeakSet()
        self._handshakes = 0
        self._lock = threading.Lock()

    def guard(self, client: Any) -> None:
        """Have every connection that `client`'s pool makes from now on pass this fence. A second call does nothing."""
        pool = getattr(client, "connection_pool", None)
        if pool is not None and getattr(pool.connection_class, _FENCE, None) is not self:
            pool.connection_class = _fenced(pool.connection_class, self)

    def enter(self, connection: Any) -> None:
        """Raise `redis.ConnectionError` if the fence is closed."""
        with self._lock:
            if self.shut:
                raise redis.ConnectionError("this worker was killed by a fault")
            self._connections.add(connection)

    def count(self, connection: Any, packed: Any) -> None:
        """Count a command that is about to be sent; `packed` as redis-py packs it."""
        if not self._handshakes or connection not in self._connecting:
            self.commands += 2 if _is_script(packed) else 1

    def look_at(self, connection: Any, args: Sequence[Any]) -> None:
        """Note what a command does that is about to be packed; `args` as redis-py takes them."""
        traits = traits_of(args)
        if traits is not self._last_traits:  # flags are slow to join, and most commands are like those before
            self.seen |= traits
            self._last_traits = traits
        if not self._handshakes or connection not in self._connecting:
            reads = bool(traits) and Trait.READS in traits and Trait.TAKES not in self.seen
            connection._redisq_takes = reads or (bool(traits) and Trait.TAKES in traits)

    def look_at_all(self, connection: Any, commands: Iterable[Sequence[Any]]) -> None:
        """Note what commands do that are about to be packed together."""
        takes = False
        for args in commands:
            self.look_at(connection, args)
            takes = takes or getattr(connection, _TAKES, False)
        setattr(connection, _TAKES, takes)

    def look_at_reply(self, connection: Any, reply: Any) -> None:
        """Note the messages in the reply to a command that takes some."""
        find = self.find
        if find is not None and getattr(connection, _TAKES, False):
            for value in (reply,) if type(reply) is bytes else _values(reply):
                for message in find(value):
                    self.handed[message] = None

    @contextmanager
    def connecting(self, connection: Any) -> Iterator[None]:
        """In this block `connection` sends its handshake."""
        self.enter(connection)
        self._connecting.add(connection)
        self._handshakes += 1
        try:
            yield
        finally:
            self._handshakes -= 1
            self._connecting.discard(connection)

    def close(self) -> None:
        """Let no command pass from now on, and end waits for a reply by a `ConnectionError`.

        For tasks: call it in their event loop.
        """
        with self._lock:
            self.shut = True
            connections = list(self._connections)
        for connection in connections:
            _cut(connection)


def fence_of(client: Any) -> Fence:
    """The fence that the connections of `client` pass already; else a new one."""
    pool = getattr(client, "connection_pool", None)
    return getattr(pool and pool.connection_class, _FENCE, None) or Fence()


def _fenced(base: type[Any], fence: Fence) -> type[Any]:
    async def connect_async(self: Any, *args: Any, **options: Any) -> Any:
        with fence.connecting(self):
            return await base.connect(self, *args, **options)

    async def send_async(self: Any, command: Any, *args: Any, **options: Any) -> Any:
        fence.enter(self)
        fence.count(self, command)
        return await base.send_packed_command(self, command, *args, **options)

    def connect(self: Any, *args: Any, **options: Any) -> Any:
        with fence.connecting(self):
            return base.connect(self, *args, **options)

    def send(self: Any, command: Any, *args: Any, **options: Any) -> Any:
        fence.enter(self)
        fence.count(self, command)
        return base.send_packed_command(self, command, *args, **options)

    async def read_async(self: Any, *args: Any, **options: Any) -> Any:
        reply = await base.read_response(self, *args, **options)
        fence.look_at_reply(self, reply)
        return reply

    def read(self: Any, *args: Any, **options: Any) -> Any:
        reply = base.read_response(self, *args, **options)
        fence.look_at_reply(self, reply)
        return reply

    def send_command(self: Any, *args: Any, **options: Any) -> Any:
        fence.look_at(self, args)
        return base.send_command(self, *args, **options)

    def pack_commands(self: Any, commands: Iterable[Any]) -> Any:
        pipelined = list(commands)
        fence.look_at_all(self, pipelined)
        fence.commands += len(pipelined) - 1  # `send` counts a pipeline once
        return base.pack_commands(self, pipelined)

    is_async = inspect.iscoroutinefunction(base.connect)
    methods = (connect_async, send_async, read_async) if is_async else (connect, send, read)
    overridden = {
        "connect": methods[0],
        "send_packed_command": methods[1],
        "read_response": methods[2],
        "send_command": send_command,
        "pack_commands": pack_commands,
        _FENCE: fence,
    }
    return type(base.__name__, (base,), overridden)


def _values(reply: Any) -> Iterator[bytes]:
    """The texts in a reply."""
    match reply:
        case bytes():
            yield reply
        case str():
            yield reply.encode(errors="replace")
        case dict():
            yield from _values([*reply.keys(), *reply.values()])
        case list() | tuple():
            for part in reply:
                yield from _values(part)


def _is_script(packed: Any) -> bool:
    first = packed if isinstance(packed, (bytes, str)) else next(iter(packed), b"")
    head = (first.encode() if isinstance(first, str) else bytes(first[:64])).split(b"\r\n", 3)
    return len(head) > 2 and head[2].upper() in _SCRIPTS


def _cut(connection: Any) -> None:
    writer = getattr(connection, "_writer", None)
    sock = getattr(connection, "_sock", None)
    if writer is not None:
        writer.transport.abort()
    elif sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it was cut off already
