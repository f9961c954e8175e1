"""Thousands of connections driven by one loop of epoll and hiredis: the fastest way from Python into a server.

The loop runs in a thread of its own (`run`), so that gevent, where Locust has patched it in, goes on beside it; what it
needs from the operating system is given to it, since under gevent the usual names mean something else. Everything else
here may be called from any thread: orders go through a queue, and batches of figures come back through another.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import select
import socket
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hiredis

from pytest_redisq.load.actors import Actor, Popper
from pytest_redisq.load.gauge import Batch, Gauge
from pytest_redisq.load.message import now_ns
from pytest_redisq.load.target import Target

#: The most that one read takes, in bytes.
READ_BYTES = 65_536
#: So many connections are being made at a time: fewer than the 511 that a stock server lets wait to be accepted.
CONNECTING = 200
#: How often figures are handed over, and how long the loop sleeps at most, in seconds.
COLLECT_SECONDS = 0.25
#: How long connections may take to be made before the run's time counts without the rest, in nanoseconds.
CONNECT_NS = 30_000_000_000
#: How long a broken connection is left alone before it is made again, in nanoseconds.
RECONNECT_NS = 50_000_000
#: What the statistics call the end of a consumer that a fault has killed.
KILLED = "killed, with a reply unread"

_PENDING = object()
_IN, _OUT = 1, 4  # as epoll and poll have them


class Line:
    """One connection and the actor on it."""

    __slots__ = (
        "actor", "client_id", "descriptor", "doomed", "due_ns", "ended", "gauge", "greeted", "missing", "number",
        "reader", "sent_ns", "socket", "stopping", "unsent", "welcomed",
    )  # fmt: skip

    def __init__(self, actor: Actor, gauge: Gauge) -> None:
        self.actor = actor
        self.gauge = gauge
        self.socket: Any = None
        self.reader: Any = None
        self.descriptor = -1
        self.client_id = 0
        self.greeted = False
        self.welcomed = False  # has been greeted once
        self.stopping = False
        self.doomed = False  # to be cut off with its next reply unread
        self.ended = False
        self.missing = 0  # replies still to come; 0 between requests
        self.sent_ns = 0
        self.due_ns = 0  # when the request was to be sent, or the next one is
        self.number = 0  # of requests sent at a pace
        self.unsent: memoryview | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """The operating system's own things, whatever has been patched."""

    socket: Callable[..., Any]
    epoll: Callable[[], Any]
    select: Callable[..., Any]

    @classmethod
    def unpatched(cls) -> Native:
        return cls(socket=socket.socket, epoll=select.epoll, select=select.select)


class Swarm:
    """Drives `actors`, each on a connection of its own to `target`.

    `due`, where a pace is asked for, tells when the k-th request (from 0) of the i-th producing actor is to be sent, in
    nanoseconds from when all are connected, or have had the time to be. `flush` is called before each collection of
    figures.
    """

    def __init__(
        self,
        target: Target,
        actors: Sequence[Actor],
        *,
        due: Callable[[int, int], int] | None = None,
        flush: Callable[[], None] = lambda: None,
        native: Native | None = None,
    ) -> None:
        self._target = target
        self._native = native or Native.unpatched()
        self._due = due
        self._flush = flush
        gauges = {actor.name: Gauge(actor.name, actor.replies) for actor in actors}
        self._gauges = list(gauges.values())
        self._all = [Line(actor, gauges[actor.name]) for actor in actors]
        self._unopened = deque(self._all)
        self._index = {id(line): at for at, line in enumerate(each for each in self._all if each.actor.producing)}
        self._lines: dict[int, Line] = {}
        self._connecting = 0
        self._left = {True: len(self._index), False: len(self._all) - len(self._index)}
        self._timers: list[tuple[int, int, Line]] = []
        self._tickets = itertools.count()
        self._orders: deque[Callable[[], None]] = deque()
        self._waker: tuple[int, int] = os.pipe()
        # Not before nobody can order anything any more: its number would soon be another file's, of anybody's.
        weakref.finalize(self, _close_all, self._waker)
        self._began_ns = 0
        self._paced_ns = 0  # from when on the pace counts; 0: not yet
        self._early: dict[Line, None] = {}  # who waits for that
        self._unwelcomed = len(self._all)
        self._over = False
        self.connect_seconds = 0.0
        self._epoll: Any = None
        #: Figures, to be taken from the left by whoever books them.
        self.batches: deque[Batch] = deque()

    # What other threads may call

    @property
    def connected(self) -> int:
        """How many connections have been greeted by the server and not been closed."""
        return len(self._lines) - self._connecting

    def served(self) -> list[int]:
        return [line.actor.served for line in self._all if isinstance(line.actor, Popper)]

    def producing(self) -> int:
        """How many producing actors have not ended."""
        return self._left[True]

    def consuming(self) -> int:
        """How many other actors have not ended."""
        return self._left[False]

    def stop_producing(self) -> None:
        """Let producing actors end, each when its request has been answered."""
        self._order(lambda: self._stop(True))

    def stop_consuming(self) -> None:
        """Let the others end, too. Whoever waits in the server ends when it is unblocked (see `waiting`)."""
        self._order(lambda: self._stop(False))

    def kill_consumers(self) -> None:
        """Cut each consumer off as if it had been killed at the worst moment: when a reply has come and is not read.

        Another takes its place, a little later.
        """
        self._order(self._doom)

    def waiting(self) -> list[int]:
        """The client ids of those that are to end and may be waiting in the server."""
        return [line.client_id for line in list(self._lines.values()) if line.stopping and line.actor.blocking]

    def close(self) -> None:
        """End the loop now. What was under way is of unknown outcome, as it would be in real life."""
        self._order(self._end)

    def run(self) -> None:
        """The loop. Returns when every actor has ended, or after `close`."""
        self._epoll = self._native.epoll()
        self._epoll.register(self._waker[0], _IN)
        self._began_ns = now_ns()
        try:
            self._loop()
        finally:
            for line in list(self._lines.values()):
                self._break_off(line, "stopped")
            self._collect()
            self._epoll.close()

    # Everything below runs in the loop's thread

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        os.write(self._waker[1], b".")

    def _loop(self) -> None:
        collect_ns = self._began_ns
        while not self._over and (self._left[True] or self._left[False]):
            while self._unopened and self._connecting < CONNECTING:
                self._open(self._unopened.popleft())
            for descriptor, event in self._events():
                line = self._lines.get(descriptor)
                if line is None:
                    # The waker, or a connection that was closed since the events were asked for.
                    if descriptor == self._waker[0]:
                        self._obey()
                elif event & ~_OUT:
                    self._receive(line)
                else:
                    self._proceed(line)
            now = now_ns()
            while self._timers and self._timers[0][0] <= now:
                self._fire(heapq.heappop(self._timers)[2], now)
            if now >= collect_ns:
                collect_ns = now + int(COLLECT_SECONDS * 1e9)
                self._collect()
                if not self._paced_ns and now > self._began_ns + CONNECT_NS:
                    self._set_pace(now)

    def _events(self) -> list[tuple[int, int]]:
        """What has come, at once or within `COLLECT_SECONDS`, and no later than when something is due.

        Until then it sleeps by `select`, which can tell microseconds where epoll cannot.
        """
        events: list[tuple[int, int]]
        if not self._timers:
            events = self._epoll.poll(COLLECT_SECONDS)
            return events
        seconds = min(COLLECT_SECONDS, (self._timers[0][0] - now_ns()) / 1e9)
        if seconds > 0:
            self._native.select([self._epoll], [], [], seconds)
        events = self._epoll.poll(0)
        return events

    def _receive(self, line: Line) -> None:
        if line.doomed:
            self._lose(line, KILLED)
            return
        try:
            data = line.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(line, error.strerror or type(error).__name__)
            return
        if not data:
            self._lose(line, "Connection closed by server")
            return
        reader = line.reader
        reader.feed(data)
        reply = reader.gets()
        if reply is _PENDING:
            return
        if not line.greeted:
            self._welcome(line, reply)
            return
        now, gauge, actor = now_ns(), line.gauge, line.actor
        gauge.bytes += len(data)
        latency: int | None = None
        missing, take, refusal = line.missing, None if actor.producing else actor.reply, hiredis.ReplyError
        while reply is not _PENDING:
            if reply.__class__ is refusal:
                gauge.errors[str(reply)] += 1
                actor.refuse(actor.replies - missing)
                latency = 0
            else:
                latency = 0 if take is None else take(reply, now)
            missing -= 1
            reply = reader.gets()
        line.missing = missing
        if missing > 0:
            return
        if latency is not None:
            gauge.service.append(latency or now - line.sent_ns)
            if line.number:
                gauge.response.append(now - line.due_ns)
        if line.stopping or self._due is not None or actor.pause_ns():
            self._next(line, now)
            return
        # What follows is `_next` for most, without its calls.
        line.sent_ns, line.missing = now, actor.replies
        request = actor.request(now)
        try:
            sent = line.socket.send(request)
        except OSError:
            sent = 0  # `_write` will meet the same error, and knows what to do
        if sent < len(request):
            self._write(line, memoryview(request)[sent:])

    def _next(self, line: Line, now: int) -> None:
        """Between two requests: end, wait for the moment of the next one, or send it."""
        if line.stopping and not line.actor.owes():
            self._retire(line)
            return
        pause = line.actor.pause_ns()
        if pause:
            self._at(now + pause, line)
            return
        if self._due is not None and line.actor.producing:
            if not self._paced_ns:
                self._early[line] = None
                return
            line.due_ns = self._paced_ns + self._due(self._index[id(line)], line.number)
            line.number += 1
            if line.due_ns > now:
                self._at(line.due_ns, line)
                return
        self._send(line, now)

    def _send(self, line: Line, now: int) -> None:
        line.sent_ns = now
        line.missing = line.actor.replies
        self._write(line, line.actor.request(now))

    def _write(self, line: Line, data: bytes | bytearray | memoryview) -> None:
        try:
            sent = line.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(line, error.strerror or type(error).__name__)
            return
        if sent < len(data):
            line.unsent = memoryview(data)[sent:]
            self._epoll.modify(line.descriptor, _IN | _OUT)

    def _proceed(self, line: Line) -> None:
        """The socket takes more: it has just been connected, or a long request was waiting."""
        self._epoll.modify(line.descriptor, _IN)
        if line.unsent is not None:
            data, line.unsent = line.unsent, None
            self._write(line, data)

    def _at(self, moment_ns: int, line: Line) -> None:
        heapq.heappush(self._timers, (moment_ns, next(self._tickets), line))

    def _fire(self, line: Line, now: int) -> None:
        if line.socket is None:
            if line.stopping:
                self._end_line(line)
            else:
                self._unopened.append(line)
        elif line.stopping and not line.actor.owes():
            self._retire(line)
        elif line.missing == 0:
            self._send(line, now)

    # Connections come and go

    def _open(self, line: Line) -> None:
        if line.stopping:
            self._end_line(line)
            return
        if line.socket is not None:  # two timers were set: its turn, and its reconnection
            return
        line.socket = self._native.socket(self._target.family, socket.SOCK_STREAM)
        line.socket.setblocking(False)
        if self._target.family != socket.AF_UNIX:
            line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.descriptor, line.greeted = line.socket.fileno(), False
        line.reader = hiredis.Reader(notEnoughData=_PENDING)
        self._lines[line.descriptor] = line
        self._connecting += 1
        status = line.socket.connect_ex(self._target.address)
        line.missing = self._target.greeting_replies
        if status not in (0, errno.EINPROGRESS):
            self._lose(line, os.strerror(status))
            return
        self._epoll.register(line.descriptor, _IN)
        # Over loopback a connection is there as soon as it was asked for, so that the greeting may go at once.
        self._write(line, self._target.greeting)

    def _welcome(self, line: Line, reply: Any) -> None:
        while reply is not _PENDING:
            if reply.__class__ is hiredis.ReplyError:
                self._lose(line, str(reply))
                return
            line.missing -= 1
            line.client_id = reply
            reply = line.reader.gets()
        if line.missing == 0:
            line.greeted = True
            self._connecting -= 1
            now = now_ns()
            self._unwelcomed -= not line.welcomed
            line.welcomed = True
            if not self._unwelcomed and not self.connect_seconds:
                self.connect_seconds = (now - self._began_ns) / 1e9
                self._set_pace(now)
            self._next(line, now)

    def _set_pace(self, now: int) -> None:
        """From now on producers send at their pace: what they are late for is the server's doing, and not ours, who are
        still connecting thousands of others.
        """
        self._paced_ns = self._paced_ns or now
        for line in self._early:
            if line.socket is not None and line.greeted:
                self._next(line, now)
        self._early.clear()

    def _retire(self, line: Line) -> None:
        self._end_line(line)
        self._hang_up(line)

    def _end_line(self, line: Line) -> None:
        self._left[line.actor.producing] -= not line.ended
        line.ended = True

    def _lose(self, line: Line, why: str) -> None:
        """The connection broke: make another, a little later."""
        self._break_off(line, why)
        self._at(now_ns() + RECONNECT_NS, line)

    def _break_off(self, line: Line, why: str) -> None:
        if line.greeted and line.missing:
            line.actor.break_off(line.actor.replies - line.missing)
        if why != "stopped":
            line.gauge.errors[why] += 1
        self._hang_up(line)

    def _hang_up(self, line: Line) -> None:
        if not line.greeted:
            self._connecting -= 1
        del self._lines[line.descriptor]
        line.socket.close()  # which takes it out of epoll's books, too
        line.socket = line.reader = line.unsent = None
        line.missing = 0
        line.doomed = False

    # Orders

    def _obey(self) -> None:
        os.read(self._waker[0], 4096)
        while self._orders:
            self._orders.popleft()()

    def _doom(self) -> None:
        for line in self._lines.values():
            line.doomed = line.greeted and not line.stopping and not line.actor.producing

    def _stop(self, producing: bool) -> None:
        """Mark them; who has nothing under way ends now, who waits for its moment ends with its timer."""
        for line in self._all:
            line.stopping = line.stopping or line.actor.producing == producing
            line.doomed = line.doomed and not line.stopping
        if producing:
            for line in self._early:
                self._at(0, line)
            self._early.clear()
        for timer in [timer for timer in self._timers if timer[2].stopping]:
            self._timers.remove(timer)
            self._at(0, timer[2])
        heapq.heapify(self._timers)

    def _end(self) -> None:
        self._over = True

    def _collect(self) -> None:
        self._flush()
        for gauge in self._gauges:
            batch = gauge.collect()
            if batch is not None:
                self.batches.append(batch)


def _close_all(descriptors: tuple[int, int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
