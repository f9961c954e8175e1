"""Virtual time for a thread's waits on sockets: a wait with a limit ends when the schedule says that its time is over.

Concerns `recv` and `recv_into`, `select.select` and `select.poll` on connections to the proxy, in threads that have a
clock. redis-py waits in these for replies (`socket_timeout`) and for messages (`PubSub.get_message`).
"""

from __future__ import annotations

import _socket
import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

_real_poll = select.poll
_real_select = select.select


class Poller(Protocol):
    """A `select.poll` object."""

    def register(self, fd: Any, eventmask: int = ..., /) -> None: ...

    def unregister(self, fd: Any, /) -> None: ...

    def poll(self, timeout: float | None = ..., /) -> list[tuple[int, int]]: ...


class InputClock(Protocol):
    """The clock of one thread, for its waits on sockets."""

    @property
    def reports_waits(self) -> bool:
        """Whether waits without a limit are reported, too."""
        ...

    def controls(self, peer: object) -> bool:
        """Whether the thread's waits for this address, as `getpeername` returns it, take the schedule's time."""
        ...

    def expect_limits(self) -> None:
        """Note that the thread's waits have limits from now on, so that it reports each wait."""
        ...

    def poll(self, poller: Poller, seconds: float | None) -> list[tuple[int, int]]:
        """Return what `poller` reports, or an empty list when the schedule has let so much time pass."""
        ...


def _controls(clock: InputClock | None, waited_for: Any) -> bool:
    """Whether a wait for a socket, or a descriptor, takes the time of the thread's clock."""
    if clock is None:
        return False
    with contextlib.suppress(OSError):  # it is no socket, or not connected
        if isinstance(waited_for, socket.socket):
            return clock.controls(waited_for.getpeername())
        descriptor = waited_for if isinstance(waited_for, int) else waited_for.fileno()
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            return clock.controls(copy.getpeername())
    return False


class _VirtualPoll:
    """What `select.poll()` returns in a thread that has a clock."""

    def __init__(self, clock: InputClock) -> None:
        self._clock = clock
        self._poller = _real_poll()
        self._controlled = False
        self.modify = self._poller.modify
        self.unregister = self._poller.unregister

    def register(self, fd: Any, *eventmask: int) -> None:
        self._controlled = self._controlled or _controls(self._clock, fd)
        self._poller.register(fd, *eventmask)

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        if not self._controlled:
            return self._poller.poll(timeout)
        return self._clock.poll(self._poller, None if timeout is None or timeout < 0 else timeout / 1000)


def _virtual_recv(real: Callable[..., Any], clock: Callable[[], InputClock | None]) -> Callable[..., Any]:
    def recv(self: socket.socket, *args: Any, **options: Any) -> Any:
        mine = clock()
        if mine is None:
            return real(self, *args, **options)
        seconds = self.gettimeout()
        if seconds != 0 and (seconds is not None or mine.reports_waits) and _controls(mine, self):
            poller = _real_poll()
            poller.register(self, select.POLLIN)
            if not mine.poll(poller, seconds):
                raise TimeoutError("timed out")
        return real(self, *args, **options)

    return recv


@contextlib.contextmanager
def virtual_socket_waits(clock: Callable[[], InputClock | None]) -> Iterator[None]:
    """Replace the waits. `clock` returns the current thread's clock; None: real time."""

    def virtual_poll() -> Any:
        mine = clock()
        return _real_poll() if mine is None else _VirtualPoll(mine)

    def virtual_select(
        reads: Sequence[Any], writes: Sequence[Any], errors: Sequence[Any], timeout: float | None = None, /
    ) -> tuple[list[Any], list[Any], list[Any]]:
        mine = clock()
        if mine is not None and timeout != 0 and any(_controls(mine, each) for each in (*reads, *writes, *errors)):
            poller = _real_poll()
            for each in {*reads, *writes, *errors}:
                poller.register(each, (each in writes and select.POLLOUT) | (each not in writes and select.POLLIN))
            mine.poll(poller, timeout)
            timeout = 0
        return _real_select(reads, writes, errors, timeout)

    def settimeout(self: socket.socket, value: float | None) -> None:
        mine = clock()
        if mine is not None and value and _controls(mine, self):
            mine.expect_limits()
        _socket.socket.settimeout(self, value)

    select.poll, select.select = virtual_poll, virtual_select  # type: ignore[assignment, misc]
    for name in ("recv", "recv_into"):
        setattr(socket.socket, name, _virtual_recv(getattr(_socket.socket, name), clock))
    socket.socket.settimeout = settimeout  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        select.poll, select.select = _real_poll, _real_select  # type: ignore[misc]
        for name in ("recv", "recv_into", "settimeout"):
            delattr(socket.socket, name)
