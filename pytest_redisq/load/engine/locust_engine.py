"""The locust engine: each client is a Locust user, a greenlet with its own redis-py connection.

It is much slower than the epoll engine, and works as most locustfiles do: every request is an event of Locust. It uses
the connection directly (`send_packed_command`, `read_response`), the cheapest part of redis-py's public API. It has no
timeouts and no retries, so the load harness itself loses and duplicates nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
import redis
from gevent.resolver.blocking import Resolver

from pytest_redisq.load.codec import now_ns
from pytest_redisq.load.engine.clients import LoadClient, OwnQueueClient
from pytest_redisq.load.engine.consumer_clients import BlpopClient
from pytest_redisq.load.engine.epoll_engine import COLLECT_SECONDS, CONNECT_NS, RECONNECT_NS
from pytest_redisq.load.engine.failure_tracker import FailureTracker
from pytest_redisq.load.engine.samples import SampleBatch, Samples
from pytest_redisq.load.queue_errors import QueueCodeError
from pytest_redisq.resp import encode_command

#: Reports a request to Locust: its method and name, milliseconds, reply bytes, and its error.
RequestReporter = Callable[[str, str, float, int, Exception | None], None]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class LocustEngine:
    """Drives the clients of this process. Each Locust user calls `work` or `work_on_own_queue` in its greenlet."""

    def __init__(
        self,
        url: str,
        client_name: str,
        *,
        connections: int,
        due: Callable[[int, int], int] | None,
        flush: Callable[[], None],
    ) -> None:
        # RESP2, as in the epoll engine, so that clients get replies of the same shape.
        self._pool = pool_of(url, protocol=2, max_connections=2**31)
        if self._pool.connection_kwargs.get("host", "") in _LOOPBACK:
            _hub().resolver = Resolver()  # gevent's default resolver uses a thread for each look-up
        #: The first commands of a new connection, in one round trip; redis-py needs one for each.
        self.handshake: bytes = encode_command(["CLIENT", "SETNAME", client_name]) + encode_command(["CLIENT", "ID"])
        self._due = due
        self._flush = flush
        self._samples: dict[str, Samples] = {}
        self._consumer_names: set[str] = set()
        self._connections: dict[int, _LocustConnection] = {}
        self._left = {True: 0, False: 0}
        self._stopping = {True: False, False: False}
        self._began_ns = now_ns()
        self._rate_start_ns = 0  # when the rate's time begins; 0: not yet
        self._served: list[int] = []
        self._unconnected = connections
        self.connect_seconds: float = 0.0
        self.batches: deque[SampleBatch] = deque()
        self.failures: FailureTracker = FailureTracker()

    @property
    def connected(self) -> int:
        return sum(connection.client_id > 0 for connection in self._connections.values())

    def served(self) -> list[int]:
        return self._served

    def connection_ready(self) -> None:
        """Note that one more client has its first connection."""
        self._unconnected -= 1
        if not self._unconnected:
            self._rate_start_ns = self._rate_start_ns or now_ns()
            self.connect_seconds = (now_ns() - self._began_ns) / 1e9

    def producing(self) -> int:
        return self._left[True]

    def consuming(self) -> int:
        return self._left[False]

    def stop_producing(self) -> None:
        self._stopping[True] = True

    def stop_consuming(self) -> None:
        self._stopping[False] = True

    def kill_consumers(self) -> None:
        for connection in self._connections.values():
            if not connection.client.producing:
                connection.cut_off()

    def waiting(self) -> list[int]:
        return [
            connection.client_id
            for connection in self._connections.values()
            if connection.client.blocking and self._stopping[connection.client.producing] and connection.client_id
        ]

    def collect(self) -> None:
        """Hand over the samples since the last call. Called every `COLLECT_SECONDS`."""
        self._flush()
        succeeded = {name for name, samples in self._samples.items() if samples.succeeded}
        if succeeded:
            self.failures.succeed(consumers=bool(succeeded & self._consumer_names))
        self.batches += filter(None, [samples.collect() for samples in self._samples.values()])

    def collect_for_ever(self) -> None:
        while True:
            gevent.sleep(COLLECT_SECONDS)
            self.collect()

    def work(self, client: LoadClient, index: int, report: RequestReporter) -> None:
        """Run `client` until it must end. Connects again when the connection breaks."""
        samples = self._samples.setdefault(client.name, Samples(client.name, client.replies))
        self._consumer_names.update(() if client.producing else (client.name,))
        connection = _LocustConnection(self, client, index, samples, report)
        self._connections[id(connection)] = connection
        self._left[client.producing] += 1
        try:
            while not connection.over():
                try:
                    connection.connect(self._pool.make_connection())
                    connection.turn_after_turn()
                except (redis.ConnectionError, redis.TimeoutError) as error:
                    connection.report_failure(error)
                    gevent.sleep(RECONNECT_NS / 1e9)
                finally:
                    connection.disconnect()
        finally:
            self._left[client.producing] -= 1
            self.failures.end(client)
            if isinstance(client, BlpopClient):
                self._served.append(client.served)
            del self._connections[id(connection)]

    def work_on_own_queue(self, client: OwnQueueClient, index: int, report: RequestReporter) -> None:
        """Run a client of the user's own queue until it is to end. A consumer then goes on until nothing comes."""
        samples = self._samples.setdefault(client.name, Samples(client.name))
        self._consumer_names.update(() if client.producing else (client.name,))
        self._left[client.producing] += 1
        self.connection_ready()
        try:
            client.work(_QueueTurns(self, client, index, samples, report))
        finally:
            self._left[client.producing] -= 1
            self.failures.end(client)
            client.close()

    def stopping(self, *, producing: bool) -> bool:
        """Whether producers, or consumers, are to end."""
        return self._stopping[producing]

    def over(self, client: LoadClient) -> bool:
        return self._stopping[client.producing] and not client.has_unacked()

    def due_ns(self, index: int, turn: int, over: Callable[[], bool]) -> int | None:
        """When the request is due; None without a rate. Waits until all are connected, at most `CONNECT_NS`."""
        if self._due is None:
            return None
        while not self._rate_start_ns and not over():
            gevent.sleep(RECONNECT_NS / 1e9)
            if now_ns() > self._began_ns + CONNECT_NS:
                self._rate_start_ns = now_ns()
        return self._rate_start_ns + self._due(index, turn)


class _QueueTurns:
    """The turns of one worker of the user's own queue, each measured and reported to Locust."""

    def __init__(
        self, engine: LocustEngine, client: OwnQueueClient, index: int, samples: Samples, report: RequestReporter
    ) -> None:
        self._engine = engine
        self._client = client
        self._producing = client.producing
        self._index = index
        self._samples = samples
        self._report = report
        self._method, _, self._name = client.name.partition(" ")
        self._due: int | None = None
        self._began = 0

    def over(self) -> bool:
        gevent.sleep(0)
        return self._engine.stopping(producing=self._producing)

    def seconds_until(self, number: int) -> float:
        self._due = self._engine.due_ns(self._index, number, lambda: self._engine.stopping(producing=True))
        return 0.0 if self._due is None else max(self._due - now_ns(), 0) / 1e9

    def begin(self) -> None:
        self._began = now_ns()

    def done(self, latency_ns: int) -> None:
        now = now_ns()
        service = latency_ns or now - self._began
        self._samples.service.append(service)
        if self._due is not None:
            self._samples.response.append(now - self._due)
        self._report(self._method, self._name, service / 1e6, 0, None)

    def idle(self) -> None:
        self._engine.failures.idle(self._client)

    def failed(self, error: Exception) -> None:
        """An exception of the user's queue is a figure of the run, and does not end it."""
        self._samples.errors[str(error)] += 1
        kind = error.kind if isinstance(error, QueueCodeError) else ""
        self._engine.failures.fail(self._client, str(error), producing=self._producing, kind=kind)
        self._report(self._method, self._name, (now_ns() - self._began) / 1e6, 0, error)


class _LocustConnection:
    """One Locust user's connection, and the client on it."""

    def __init__(
        self, engine: LocustEngine, client: LoadClient, index: int, samples: Samples, report: RequestReporter
    ) -> None:
        self.client = client
        self.client_id = 0
        self._engine = engine
        self._index = index
        self._samples = samples
        self._report = report
        self._turn = 0
        self._was_ready = False
        self._connection: Any = None
        self._answered: int | None = None  # replies to the request under way; None between requests
        self._method, _, self._name = client.name.partition(" ")

    def over(self) -> bool:
        return self._engine.over(self.client)

    def connect(self, connection: Any) -> None:
        self._connection = connection
        connection.connect()
        connection.send_packed_command([self._engine.handshake], check_health=False)
        connection.read_response()
        self.client_id = connection.read_response()
        if not self._was_ready:
            self._was_ready = True
            self._engine.connection_ready()

    def turn_after_turn(self) -> None:
        while not self.over():
            due = self._engine.due_ns(self._index, self._turn, self.over) if self.client.producing else None
            self._turn += 1
            if not self.over() and self._wait(due):
                self._exchange(due)

    def _wait(self, due: int | None) -> bool:
        """Sleep until the next request is due. Returns False if the client is to end."""
        until = now_ns() + self.client.pause_ns() if due is None else due
        while (seconds := (until - now_ns()) / 1e9) > 0:
            gevent.sleep(min(seconds, COLLECT_SECONDS))
            if self.over():
                return False
        return True

    def _exchange(self, due: int | None) -> None:
        client, connection, samples = self.client, self._connection, self._samples
        sent = now_ns()
        self._answered = 0
        connection.send_packed_command([client.request(sent)], check_health=False)
        latency: int | None = None
        length, refusals, refused = 0, 0, None
        for at in range(client.replies):
            try:
                reply = connection.read_response()
            except redis.ResponseError as error:
                client.refuse(at)
                refused, latency = error, 0
                refusals += 1
            else:
                latency = client.reply(reply, now_ns())
                length += reply_bytes(reply)
            self._answered = at + 1
        self._answered = None
        if refused is not None:
            samples.errors[str(refused)] += 1
        if refused is not None and refusals == client.replies:
            samples.refused += 1
            self._engine.failures.fail(client, str(refused), producing=client.producing)
        if latency is None:
            return
        now = now_ns()
        samples.service.append(latency or now - sent)
        samples.bytes += length
        if due is not None:
            samples.response.append(now - due)
        self._report(self._method, self._name, (latency or now - sent) / 1e6, length, refused)

    def cut_off(self) -> None:
        """Shut the socket down while the client waits for a reply: the client then connects again."""
        sock = self._connection._sock if self._connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def report_failure(self, error: Exception) -> None:
        self._samples.errors[str(error)] += 1
        self._engine.failures.fail(self.client, str(error), producing=self.client.producing)
        self._report(self._method, self._name, 0.0, 0, error)

    def disconnect(self) -> None:
        if self._answered is not None:
            self.client.connection_lost(self._answered)
            self._answered = None
        self.client_id = 0
        if self._connection is not None:
            self._connection.disconnect()


def _hub() -> Any:
    return gevent.get_hub()


def pool_of(url: str, **options: Any) -> redis.ConnectionPool:
    """A pool of connections without timeouts and retries, which themselves lose and duplicate nothing.

    `options`: further options of the connections. They do not send the name of the library (CLIENT SETINFO), which
    takes two thirds of the CPU time of connecting. `retry` is None: a Retry object would be copied for each connection.
    """
    known = inspect.signature(redis.connection.AbstractConnection.__init__).parameters
    nameless = ["driver_info"] if "driver_info" in known else ["lib_name", "lib_version"]
    options = {**dict.fromkeys(nameless), "socket_timeout": None, "retry": None, **options}
    return redis.ConnectionPool.from_url(url, **options)


def reply_bytes(reply: Any) -> int:
    """The bytes of payload in a reply. A number counts as 8."""
    if isinstance(reply, bytes):
        return len(reply)
    return sum(map(reply_bytes, reply)) if isinstance(reply, list) else 8
