"""Drives thousands of connections by one loop of epoll and hiredis, the fastest way from Python to a server.

`run` is the loop. It has its own thread, so that gevent can run beside it. It gets the functions of the operating
system as an argument, because gevent patches them in their modules. Any thread may call the other public functions.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from pytest_redisq.load.codec import now_ns
from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.consumer_clients import BlpopClient
from pytest_redisq.load.engine.epoll_connection import PENDING, EpollConnection, LoopCalls, SystemCalls
from pytest_redisq.load.engine.failure_tracker import FailureTracker
from pytest_redisq.load.engine.samples import SampleBatch, Samples
from pytest_redisq.load.engine.target import Target

#: The most bytes of one read.
READ_BYTES = 65_536
#: The most connections that are opened at the same time: fewer than a server's default backlog of 511.
CONNECTING = 200
#: Seconds between two collections of figures, and the longest sleep of the loop.
COLLECT_SECONDS = 0.25
#: Nanoseconds after which the run's time starts, although some connections are not open yet.
CONNECT_NS = 30_000_000_000
#: Nanoseconds before a broken connection is opened again.
RECONNECT_NS = 50_000_000
#: The error in the statistics for a consumer that a fault has killed.
KILLED = "killed, with a reply unread"

_IN, _OUT = 1, 4  # EPOLLIN and EPOLLOUT


class EpollEngine:
    """Drives `clients`, each on its own connection to `target`.

    * `due`: a function of i and k: when producing client i must send its request number k (both from 0), in
      nanoseconds after all are connected, at the latest `CONNECT_NS` after the start; default: as fast as possible.
    * `flush`: called before each collection of figures. `native`: the operating system's functions.
    """

    def __init__(
        self,
        target: Target,
        clients: Sequence[LoadClient],
        *,
        due: Callable[[int, int], int] | None = None,
        flush: Callable[[], None] = lambda: None,
        native: SystemCalls | None = None,
    ) -> None:
        self._target = target
        self._native = native or SystemCalls.unpatched()
        self._due = due
        self._flush = flush
        by_name = {client.name: Samples(client.name, client.replies) for client in clients}
        self._samples = list(by_name.values())
        self._consumer_names = {client.name for client in clients if not client.producing}
        self.failures: FailureTracker = FailureTracker()
        self._all = [EpollConnection(client, by_name[client.name], self.failures) for client in clients]
        self._unopened = deque(self._all)
        self._index = {
            id(connection): at for at, connection in enumerate(each for each in self._all if each.client.producing)
        }
        self._connections: dict[int, EpollConnection] = {}
        self._connecting = 0
        self._left = {True: len(self._index), False: len(self._all) - len(self._index)}
        self._timers: list[tuple[int, int, EpollConnection]] = []
        self._tickets = itertools.count()
        self._calls = LoopCalls()
        self._began_ns = 0
        self._rate_start_ns = 0  # when the rate's time starts; 0: not yet
        self._waiting_for_rate: dict[EpollConnection, None] = {}  # connections that wait for that time
        self._never_ready = len(self._all)
        self._over = False
        self.connect_seconds: float = 0.0
        self._epoll: Any = None
        #: Figures, to be taken from the left.
        self.batches: deque[SampleBatch] = deque()

    # For other threads

    @property
    def connected(self) -> int:
        """The number of connections that are ready and not closed."""
        return len(self._connections) - self._connecting

    def served(self) -> list[int]:
        return [connection.client.served for connection in self._all if isinstance(connection.client, BlpopClient)]

    def producing(self) -> int:
        """The number of producing clients that have not ended."""
        return self._left[True]

    def consuming(self) -> int:
        """The number of other clients that have not ended."""
        return self._left[False]

    def stop_producing(self) -> None:
        """End the producing clients, each when its request has been answered."""
        self._calls.add(lambda: self._stop(True))

    def stop_consuming(self) -> None:
        """End the other clients. A client that is blocked in the server ends when it is unblocked (see `waiting`)."""
        self._calls.add(lambda: self._stop(False))

    def kill_consumers(self) -> None:
        """Break the connection of each consumer when its next reply has arrived and has not been read.

        A new connection replaces it a little later.
        """
        self._calls.add(self._mark_consumers)

    def waiting(self) -> list[int]:
        """The ids (CLIENT ID) of the clients that must end and may be blocked in the server."""
        return [
            connection.client_id
            for connection in list(self._connections.values())
            if connection.stopping and connection.client.blocking
        ]

    def close(self) -> None:
        """End the loop now. Requests without a reply have an unknown outcome."""
        self._calls.add(self._end)

    def run(self) -> None:
        """Run the loop. Returns when all clients have ended, or after `close`."""
        self._epoll = self._native.epoll()
        self._epoll.register(self._calls.descriptor, _IN)
        self._began_ns = now_ns()
        try:
            self._loop()
        finally:
            for connection in list(self._connections.values()):
                self._connection_lost(connection, "")
            self._collect()
            self._epoll.close()

    # Everything below runs in the loop's thread

    def _loop(self) -> None:
        collect_ns = self._began_ns
        while not self._over and (self._left[True] or self._left[False]):
            while self._unopened and self._connecting < CONNECTING:
                self._open(self._unopened.popleft())
            for descriptor, event in self._events():
                connection = self._connections.get(descriptor)
                if connection is None:
                    # A call from another thread, or a connection that was closed since the events were read.
                    if descriptor == self._calls.descriptor:
                        self._calls.run()
                elif event & ~_OUT:
                    self._on_readable(connection)
                else:
                    self._on_writable(connection)
            now = now_ns()
            while self._timers and self._timers[0][0] <= now:
                self._on_timer(heapq.heappop(self._timers)[2], now)
            if now >= collect_ns:
                collect_ns = now + int(COLLECT_SECONDS * 1e9)
                self._collect()
                if not self._rate_start_ns and now > self._began_ns + CONNECT_NS:
                    self._start_rate(now)

    def _events(self) -> list[tuple[int, int]]:
        """The events within `COLLECT_SECONDS`, or before the next timer is due.

        Sleeps with `select`, which counts in microseconds; epoll counts in milliseconds.
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

    def _on_readable(self, connection: EpollConnection) -> None:
        if connection.to_be_killed:
            self._reconnect_later(connection, KILLED)
            return
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._reconnect_later(connection, error.strerror or type(error).__name__)
            return
        if not data:
            self._reconnect_later(connection, "Connection closed by server")
            return
        reader = connection.reader
        reader.feed(data)
        reply = reader.gets()
        if reply is PENDING:
            return
        if not connection.ready:
            self._finish_handshake(connection, reply)
            return
        now, samples, client = now_ns(), connection.samples, connection.client
        samples.bytes += len(data)
        latency: int | None = None
        missing, take, refusal = connection.missing, None if client.producing else client.reply, hiredis.ReplyError
        while reply is not PENDING:
            if reply.__class__ is refusal:
                connection.refuse(missing, str(reply))
                latency = 0
            else:
                latency = 0 if take is None else take(reply, now)
            missing -= 1
            reply = reader.gets()
        connection.missing = missing
        if missing > 0:
            return
        if latency is not None:
            samples.service.append(latency or now - connection.sent_ns)
            if connection.number:
                samples.response.append(now - connection.due_ns)
        if connection.stopping or self._due is not None or client.pause_ns():
            self._next(connection, now)
            return
        # This is `_next`, inlined.
        connection.sent_ns, connection.missing = now, client.replies
        request = client.request(now)
        try:
            sent = connection.socket.send(request)
        except OSError:
            sent = 0  # `_write` gets the same error, and handles it
        if sent < len(request):
            self._write(connection, memoryview(request)[sent:])

    def _next(self, connection: EpollConnection, now: int) -> None:
        """Between two requests: end, set a timer for the next request, or send it."""
        if connection.stopping and not connection.client.has_unacked():
            self._end_and_close(connection)
            return
        pause = connection.client.pause_ns()
        if pause:
            self._set_timer(now + pause, connection)
            return
        if self._due is not None and connection.client.producing:
            if not self._rate_start_ns:
                self._waiting_for_rate[connection] = None
                return
            connection.due_ns = self._rate_start_ns + self._due(self._index[id(connection)], connection.number)
            connection.number += 1
            if connection.due_ns > now:
                self._set_timer(connection.due_ns, connection)
                return
        self._send(connection, now)

    def _send(self, connection: EpollConnection, now: int) -> None:
        connection.sent_ns = now
        connection.missing = connection.client.replies
        self._write(connection, connection.client.request(now))

    def _write(self, connection: EpollConnection, data: bytes | bytearray | memoryview) -> None:
        try:
            sent = connection.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._reconnect_later(connection, error.strerror or type(error).__name__)
            return
        if sent < len(data):
            connection.unsent = memoryview(data)[sent:]
            self._epoll.modify(connection.descriptor, _IN | _OUT)

    def _on_writable(self, connection: EpollConnection) -> None:
        """The socket is writable: it has just been connected, or a long request was waiting."""
        self._epoll.modify(connection.descriptor, _IN)
        if connection.unsent is not None:
            data, connection.unsent = connection.unsent, None
            self._write(connection, data)

    def _set_timer(self, moment_ns: int, connection: EpollConnection) -> None:
        heapq.heappush(self._timers, (moment_ns, next(self._tickets), connection))

    def _on_timer(self, connection: EpollConnection, now: int) -> None:
        if connection.socket is None:
            if connection.stopping:
                self._end_connection(connection)
            else:
                self._unopened.append(connection)
        elif connection.stopping and not connection.client.has_unacked():
            self._end_and_close(connection)
        elif connection.missing == 0:
            self._send(connection, now)

    # Opening and closing connections

    def _open(self, connection: EpollConnection) -> None:
        if connection.stopping:
            self._end_connection(connection)
            return
        if connection.socket is not None:  # two timers were set: for its request, and for its reconnection
            return
        status = connection.open(self._native, self._target)
        self._connections[connection.descriptor] = connection
        self._connecting += 1
        if status not in (0, errno.EINPROGRESS):
            self._reconnect_later(connection, os.strerror(status))
            return
        self._epoll.register(connection.descriptor, _IN)
        # On loopback a connection is ready at once, and so the handshake can be sent at once.
        self._write(connection, self._target.handshake)

    def _finish_handshake(self, connection: EpollConnection, reply: Any) -> None:
        while reply is not PENDING:
            if reply.__class__ is hiredis.ReplyError:
                self._reconnect_later(connection, str(reply))
                return
            connection.missing -= 1
            connection.client_id = reply
            reply = connection.reader.gets()
        if connection.missing == 0:
            connection.ready = True
            self._connecting -= 1
            now = now_ns()
            self._never_ready -= not connection.was_ready
            connection.was_ready = True
            if not self._never_ready and not self.connect_seconds:
                self.connect_seconds = (now - self._began_ns) / 1e9
                self._start_rate(now)
            self._next(connection, now)

    def _start_rate(self, now: int) -> None:
        """Start the rate: from now on producers send at it.

        Before that, requests would be late because the engine is still connecting, not because of the server.
        """
        self._rate_start_ns = self._rate_start_ns or now
        for connection in self._waiting_for_rate:
            if connection.socket is not None and connection.ready:
                self._next(connection, now)
        self._waiting_for_rate.clear()

    def _end_and_close(self, connection: EpollConnection) -> None:
        self._end_connection(connection)
        self._close_connection(connection)

    def _end_connection(self, connection: EpollConnection) -> None:
        self._left[connection.client.producing] -= not connection.ended
        connection.ended = True
        self.failures.end(connection)

    def _reconnect_later(self, connection: EpollConnection, why: str) -> None:
        """Open a new connection a little later, because this one broke."""
        self._connection_lost(connection, why)
        self._set_timer(now_ns() + RECONNECT_NS, connection)

    def _connection_lost(self, connection: EpollConnection, why: str) -> None:
        connection.lose(why)
        self._close_connection(connection)

    def _close_connection(self, connection: EpollConnection) -> None:
        if not connection.ready:
            self._connecting -= 1
        del self._connections[connection.descriptor]
        connection.close()

    # Calls from other threads

    def _mark_consumers(self) -> None:
        for connection in self._connections.values():
            connection.to_be_killed = connection.ready and not connection.stopping and not connection.client.producing

    def _stop(self, producing: bool) -> None:
        """Mark the connections that must end. Those that wait for a timer end at once."""
        for connection in self._all:
            connection.stopping = connection.stopping or connection.client.producing == producing
            connection.to_be_killed = connection.to_be_killed and not connection.stopping
        if producing:
            for connection in self._waiting_for_rate:
                self._set_timer(0, connection)
            self._waiting_for_rate.clear()
        for timer in [timer for timer in self._timers if timer[2].stopping]:
            self._timers.remove(timer)
            self._set_timer(0, timer[2])
        heapq.heapify(self._timers)

    def _end(self) -> None:
        self._over = True

    def _collect(self) -> None:
        self._flush()
        succeeded = {samples.name for samples in self._samples if samples.succeeded}
        if succeeded:
            self.failures.succeed(consumers=bool(succeeded & self._consumer_names))
        self.batches += filter(None, [samples.collect() for samples in self._samples])
