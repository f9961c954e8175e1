"""The connections that the epoll engine's loop drives, and its queue of calls from other threads."""

from __future__ import annotations

import os
import select
import socket
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hiredis

from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.failure_tracker import FailureTracker
from pytest_redisq.load.engine.samples import Samples
from pytest_redisq.load.engine.target import Target

#: The value that a connection's reader returns if no whole reply has come.
PENDING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemCalls:
    """The operating system's functions, without gevent's patches."""

    socket: Callable[..., Any]
    epoll: Callable[[], Any]
    select: Callable[..., Any]

    @classmethod
    def unpatched(cls) -> SystemCalls:
        return cls(socket=socket.socket, epoll=select.epoll, select=select.select)


class EpollConnection:
    """One connection and its client. It is closed if `socket` is None."""

    __slots__ = (
        "client",
        "client_id",
        "descriptor",
        "due_ns",
        "ended",
        "failures",
        "missing",
        "number",
        "reader",
        "ready",
        "refused",
        "refused_ns",
        "samples",
        "sent_ns",
        "socket",
        "stopping",
        "to_be_killed",
        "unsent",
        "was_ready",
    )  # fmt: skip

    def __init__(self, client: LoadClient, samples: Samples, failures: FailureTracker) -> None:
        self.client: LoadClient = client
        self.samples: Samples = samples
        self.failures: FailureTracker = failures
        self.socket: Any = None
        self.reader: Any = None
        self.descriptor: int = -1
        self.client_id: int = 0
        self.ready: bool = False
        self.was_ready: bool = False  # whether it has been ready before
        self.stopping: bool = False
        self.to_be_killed: bool = False  # its next reply is not read, and the connection is closed
        self.ended: bool = False
        self.missing: int = 0  # replies that have not come yet; 0 between requests
        self.sent_ns: int = 0
        self.due_ns: int = 0  # when this request, or the next one, is due
        self.number: int = 0  # requests sent so far at the rate
        self.unsent: memoryview | None = None
        self.refused: int = 0  # errors among the replies to the request that was sent at `refused_ns`
        self.refused_ns: int = 0

    def open(self, native: SystemCalls, target: Target) -> int:
        """Create a socket and begin to connect it to `target`. Returns the status of `connect_ex`."""
        self.socket = native.socket(target.family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        if target.family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.descriptor, self.ready = self.socket.fileno(), False
        self.reader = hiredis.Reader(notEnoughData=PENDING)
        self.missing = target.handshake_replies
        return int(self.socket.connect_ex(target.address))

    def refuse(self, missing: int, error: str) -> None:
        """The reply before which `missing` replies had not come is an error."""
        self.samples.errors[error] += 1
        self.client.refuse(self.client.replies - missing)
        if self.refused_ns != self.sent_ns:
            self.refused, self.refused_ns = 0, self.sent_ns
        self.refused += 1
        if self.refused == self.client.replies:
            self.samples.refused += 1
            self.failures.fail(self, error, producing=self.client.producing)

    def lose(self, why: str) -> None:
        """The connection broke, or was not made. `why`: the error; "" if it is only closed."""
        if self.ready and self.missing:
            self.client.connection_lost(self.client.replies - self.missing)
        if why:
            self.samples.errors[why] += 1
            self.failures.fail(self, why, producing=self.client.producing)

    def close(self) -> None:
        """Close the socket, which also removes it from epoll."""
        self.socket.close()
        self.socket = self.reader = self.unsent = None
        self.missing = 0
        self.to_be_killed = False


class LoopCalls:
    """Calls from other threads for the loop's thread. `descriptor` is readable while there are calls."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self.descriptor: int
        self.descriptor, self._write_end = os.pipe()
        # Closed only when no thread can add a call any more: another file could then have the same descriptor.
        weakref.finalize(self, _close_all, (self.descriptor, self._write_end))

    def add(self, call: Callable[[], None]) -> None:
        """Have the loop make `call`. Any thread may call this."""
        self._calls.append(call)
        os.write(self._write_end, b".")

    def run(self) -> None:
        """Make the calls, in the loop's thread."""
        os.read(self.descriptor, 4096)
        while self._calls:
            self._calls.popleft()()


def _close_all(descriptors: tuple[int, int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
