"""Cuts a worker that lives in this process off from the server, as its death would."""

from __future__ import annotations

import inspect
import socket
import threading
import weakref
from typing import Any

import redis


class Fence:
    """Cuts a worker in a thread or task off from the server, for good, as its death would."""

    def __init__(self) -> None:
        self.shut = False
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()

    def guard(self, client: Any) -> None:
        """Every connection that `client`'s pool makes from now on, or that is made like them, passes this fence."""
        pool = getattr(client, "connection_pool", None)
        if pool is not None:
            pool.connection_class = _fenced(pool.connection_class, self)

    def enter(self, connection: Any) -> None:
        with self._lock:
            if self.shut:
                raise redis.ConnectionError("this worker was killed by a fault")
            self._connections.add(connection)

    def close(self) -> None:
        """Nothing passes any more, and what waits for a reply gets a ConnectionError. For tasks, in their loop."""
        with self._lock:
            self.shut = True
            connections = list(self._connections)
        for connection in connections:
            _cut(connection)


def _fenced(base: type[Any], fence: Fence) -> type[Any]:
    async def connect_async(self: Any, *args: Any, **options: Any) -> Any:
        fence.enter(self)
        return await base.connect(self, *args, **options)

    async def send_async(self: Any, *args: Any, **options: Any) -> Any:
        fence.enter(self)
        return await base.send_packed_command(self, *args, **options)

    def connect(self: Any, *args: Any, **options: Any) -> Any:
        fence.enter(self)
        return base.connect(self, *args, **options)

    def send(self: Any, *args: Any, **options: Any) -> Any:
        fence.enter(self)
        return base.send_packed_command(self, *args, **options)

    is_async = inspect.iscoroutinefunction(base.connect)
    methods = (connect_async, send_async) if is_async else (connect, send)
    return type(base.__name__, (base,), {"connect": methods[0], "send_packed_command": methods[1]})


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
