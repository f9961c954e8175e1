"""Refuses an actor's connection straight to the server: no schedule controls its commands."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import redis

from pytest_redisq.endpoint.user_code import place_of_frame
from pytest_redisq.errors import RedisqError
from pytest_redisq.explore.virtual_time import has_clock


@contextlib.contextmanager
def direct_connections_refused(
    server: object, allowed: redis.Redis, refused: Callable[[RedisqError], None]
) -> Iterator[None]:
    """Replace `socket.connect`: in an actor's thread, a connection to the server's address raises.

    * `server`: the address, as `getpeername` returns it. `allowed`: a client that may connect to it.
    * `refused`: called with the error as well, because the actor's code may swallow it.
    """
    inherited = "connect" not in vars(socket.socket)
    real: Callable[[socket.socket, Any], None] = socket.socket.connect

    def connect(self: socket.socket, address: Any, /) -> None:
        frame = sys._getframe(1)
        if has_clock() and address == server and not _is_of(allowed, frame):
            error = RedisqError(
                f"An actor connects straight to the server, past the schedule: {place_of_frame(frame)}\n"
                'What to do: use the client that the actor is given, or with gets="url" the URL.'
            )
            refused(error)
            self.close()
            raise error
        real(self, address)

    socket.socket.connect = connect  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        if inherited:
            del socket.socket.connect
        else:
            socket.socket.connect = real  # type: ignore[method-assign, assignment]


def _is_of(client: redis.Redis, frame: FrameType | None) -> bool:
    """Whether the client, or a pipeline of it, is at work in one of the frames."""
    while frame is not None:
        if getattr(frame.f_locals.get("self"), "connection_pool", None) is client.connection_pool:
            return True
        frame = frame.f_back
    return False
