"""Watches the connections of one worker: counts its commands, sees what they do, and can cut it off."""

from __future__ import annotations

import inspect
import socket
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from pytest_redisq.resp import Trait, traits_of

#: Commands that execute several commands of their own.
_SCRIPTS = (b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"FCALL", b"FCALL_RO")

#: The attribute of a fenced class of connections that is its fence.
_FENCE = "_redisq_fence"


class Fence:
    """Stands between a worker and the server. `close` cuts a worker in a thread or task off, as its death would."""

    def __init__(self) -> None:
        self.shut: bool = False
        #: Commands sent since an operation set it to 0. The handshake of a new connection does not count.
        self.commands: int = 0
        #: What its commands have done.
        self.seen: Trait = Trait.NONE
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._connecting: weakref.WeakSet[Any] = weakref.WeakSet()
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
        if connection not in self._connecting:
            self.commands += 2 if _is_script(packed) else 1

    def look_at(self, args: Sequence[Any]) -> None:
        """Note what a command does that is about to be packed; `args` as redis-py takes them."""
        self.seen |= traits_of(args)

    @contextmanager
    def connecting(self, connection: Any) -> Iterator[None]:
        """In this block `connection` sends its handshake."""
        self.enter(connection)
        self._connecting.add(connection)
        try:
            yield
        finally:
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

    def send_command(self: Any, *args: Any, **options: Any) -> Any:
        fence.look_at(args)
        return base.send_command(self, *args, **options)

    def pack_commands(self: Any, commands: Iterable[Any]) -> Any:
        pipelined = list(commands)
        for args in pipelined:
            fence.look_at(args)
        fence.commands += len(pipelined) - 1  # `send` counts a pipeline once
        return base.pack_commands(self, pipelined)

    is_async = inspect.iscoroutinefunction(base.connect)
    methods = (connect_async, send_async) if is_async else (connect, send)
    overridden = {
        "connect": methods[0],
        "send_packed_command": methods[1],
        "send_command": send_command,
        "pack_commands": pack_commands,
        _FENCE: fence,
    }
    return type(base.__name__, (base,), overridden)


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
