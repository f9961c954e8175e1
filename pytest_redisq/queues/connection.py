"""A queue's own connection to the server of a redis-py client, without that client's retries.

redis-py 8 reads with a timeout of 5 seconds and retries every command ten times. Both harm a queue. A blocking pop is
cut off and sent again, although the server may already have sent the element to the old connection. A push whose reply
was lost is done twice. So this connection uses the client's address, credentials and TLS, but not its retries. It waits
for a reply as long as the command may block, plus the client's own `socket_timeout`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import logging
import os
import socket
import threading
from collections import deque
from typing import Any, NamedTuple

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from pytest_redisq.queues.steps import Argument, RedisCommand

#: Prefixes of pool settings that are not taken from the client. RESP2 has one shape of reply for each command;
#: maintenance notices, client-side caching and field-set registries need RESP3.
_OWN = ("retry", "maint", "orig_", "oss_cluster_", "himport_", "protocol", "health_check", "decode_", "encoding")


#: Bytes in one read from the socket. With redis-py's 64 KiB a chunk of a drain takes a third longer.
READ_BYTES = 262_144


def settings_of(client: Any) -> dict[str, Any]:
    """The keyword arguments for a connection like `client`'s, without the settings that harm a queue.

    Raises TypeError for an object that is not a redis-py client of one server.
    """
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        raise TypeError(
            f"a queue needs a redis.Redis or redis.asyncio.Redis, not {type(client).__name__}. For a cluster, pass the "
            "client of the node that has the key: cluster.get_redis_connection(cluster.get_node_from_key(key))"
        )
    kept = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_OWN)}
    kept["protocol"] = 2
    kept["socket_read_size"] = max(kept.get("socket_read_size", 0), READ_BYTES)
    kept["socket_connect_timeout"] = kept.get("socket_connect_timeout") or 10.0
    if "path" not in kept:
        kept.setdefault("socket_keepalive", True)
    return kept


def _patience_of(client: Any) -> float | None:
    """Seconds that a reply may be late before the connection counts as broken; None: no limit."""
    patience = client.connection_pool.connection_kwargs.get("socket_timeout", 5.0)
    return None if patience is None else float(patience)


def place_of(client: Any) -> str:
    """A unique readable name of a client's database: "redis:6379/0", "localhost:6379/0 seen from pod-1"."""
    settings = client.connection_pool.connection_kwargs
    where = settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
    here = where.startswith(("/", "localhost:", "127.", "::1:"))  # such an address is a different server on each host
    return f"{where}/{settings.get('db') or 0}" + f" seen from {socket.gethostname()}" * here


def _limit(command: RedisCommand, patience: float | None) -> float | None:
    if command.blocks_seconds is None or patience is None:
        return None
    return command.blocks_seconds + patience


def _late(command: RedisCommand, limit: float | None) -> RedisTimeoutError:
    return RedisTimeoutError(f"no reply to {command.args[0]!s} within {limit} s: its outcome is unknown")


def without_numbers(args: tuple[Argument, ...]) -> list[bytes | str]:
    """`args` with numbers as text. hiredis crashes the process if a signal handler raises while it formats a number."""
    return [repr(arg) if isinstance(arg, int | float) else arg for arg in args]


@functools.cache
def recommend_hiredis() -> None:
    """Log a warning, once in a process, if hiredis is missing: large replies are then parsed ten times slower."""
    if importlib.util.find_spec("hiredis") is None:
        logging.getLogger("pytest_redisq").warning(
            "hiredis is not installed, so replies are parsed in Python: a drain takes up to ten times as long. "
            "What to do: pip install 'pytest-redisq[fast]'"
        )


class PendingReply(NamedTuple):
    """Identifies the reply to command number `number` of connection number `connection`."""

    connection: int
    number: int


class QueueConnection:
    """A connection that opens when needed and after an error, and sends each command at most once. Thread-safe.

    `grace_seconds`: after a reply that did not arrive in time, the longest wait for each next reply, until one
    arrives; default: no change. So a repeated command fails quickly if the server still does not answer.
    """

    def __init__(self, client: redis.Redis, *, grace_seconds: float | None = None) -> None:
        self._client = client  # keeps a Sentinel pool alive: the connection has only a weak reference to it
        settings = settings_of(client) | {"retry": Retry(NoBackoff(), 0)}
        self._connection: Any = client.connection_pool.connection_class(**settings)
        self._patience = self._usual_patience = _patience_of(client)
        self._grace_seconds = grace_seconds
        self._hurried = False
        self._lock = threading.RLock()  # Ctrl-C may leave it locked, and the same thread closes the connection after it
        self._process = os.getpid()
        self._connected = False
        self._connections = self._sent = 0
        self._owed: deque[tuple[int, RedisCommand]] = deque()  # commands whose replies have not been read
        self._early: dict[int, Any] = {}  # replies, or errors, that were read before `receive` asked for them
        self.client_id: int | None = None

    def connect(self) -> int:
        """Connect if necessary. Returns the CLIENT ID, which is a new one after each reconnect.

        A connection that was closed before a command was sent is replaced without an error: no outcome is unknown.
        """
        with self._lock:
            return self._ready()

    def call(self, command: RedisCommand) -> Any:
        """Send `command`; returns its reply. After a ConnectionError or TimeoutError the outcome is unknown."""
        with self._lock:
            self._ready()
            try:
                return self._exchange(command)
            except redis.ResponseError:
                raise
            except BaseException:
                self._drop()
                raise

    def send(self, command: RedisCommand) -> PendingReply:
        """Send `command` without waiting. `receive` returns its reply; other commands may be sent before. Raises as
        `call`.
        """
        with self._lock:
            self._ready()
            try:
                return PendingReply(self._connections, self._post(command))
            except BaseException:
                self._drop()
                raise

    def receive(self, ticket: PendingReply) -> Any:
        """The reply to a command that was sent. Raises as `call`, also if the connection broke since."""
        with self._lock:
            if ticket.connection != self._connections or not self._connected:
                raise RedisConnectionError("the connection broke before the reply came: the outcome is unknown")
            try:
                return self._reply(ticket.number)
            except redis.ResponseError:
                raise
            except BaseException:
                self._drop()
                raise

    def hurry(self) -> None:
        """From now on wait at most `grace_seconds` for each reply and each connection."""
        self._hurried = True
        self._patience = self._connection.socket_timeout = self._connection.socket_connect_timeout = self._grace_seconds

    def abort(self) -> None:
        """Cut the connection of a blocked `call`, which then raises ConnectionError."""
        sock = self._connection._sock  # disconnect() would remove the parser that another thread is using
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _ready(self) -> int:
        if os.getpid() != self._process:
            raise RuntimeError("this queue was bound in another process. Call queue.bind(client) in this process.")
        if self._connected and not self._is_stale() and self.client_id is not None:
            return self.client_id
        self._drop()
        try:
            self._connection.connect()
            self._connected = True
            self._connections += 1
            self.client_id = int(self._exchange(RedisCommand(("CLIENT ID",))))
        except BaseException:
            self._drop()
            raise
        return self.client_id

    def _exchange(self, command: RedisCommand) -> Any:
        return self._reply(self._post(command))

    def _post(self, command: RedisCommand) -> int:
        self._connection.send_command(*without_numbers(command.args), check_health=False)
        self._sent += 1
        self._owed.append((self._sent, command))
        return self._sent

    def _reply(self, wanted: int) -> Any:
        """The reply of that number. Replies before it are kept for `receive`."""
        while self._owed and self._owed[0][0] <= wanted:
            number, command = self._owed.popleft()
            limit = _limit(command, self._patience)
            if not self._connection.can_read(limit):
                if self._grace_seconds is not None:
                    self._patience = self._grace_seconds
                raise _late(command, limit)
            try:
                self._early[number] = self._connection.read_response()
            except redis.ResponseError as error:
                self._early[number] = error
        if not self._hurried:
            self._patience = self._usual_patience
        reply = self._early.pop(wanted)
        if isinstance(reply, redis.ResponseError):
            raise reply
        return reply

    def _is_stale(self) -> bool:
        try:
            return not self._owed and bool(self._connection.can_read(0))
        except (RedisConnectionError, RedisTimeoutError, OSError):
            return True

    def _drop(self) -> None:
        self._connected = False
        self.client_id = None
        self._owed.clear()
        self._early.clear()
        self._connection.disconnect()


class AsyncQueueConnection:
    """`QueueConnection` for an asyncio client. Tasks may share it: it sends one command at a time."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        settings = settings_of(client) | {"retry": AsyncRetry(NoBackoff(), 0), "socket_timeout": None}
        self._connection: Any = client.connection_pool.connection_class(**settings)
        self._patience = _patience_of(client)
        self._lock = asyncio.Lock()
        self._connected = False
        self.client_id: int | None = None

    async def connect(self) -> int:
        async with self._lock:
            return await self._ready()

    async def call(self, command: RedisCommand) -> Any:
        """As `QueueConnection.call`. A cancelled call closes the connection: no other command may get its reply."""
        async with self._lock:
            await self._ready()
            try:
                return await self._exchange(command)
            except redis.ResponseError:
                raise
            except BaseException:
                await self._drop()
                raise

    async def abort(self) -> None:
        await self._connection.disconnect(nowait=True)

    async def close(self) -> None:
        async with self._lock:
            await self._drop()

    async def _ready(self) -> int:
        if self._connected and not await self._is_stale() and self.client_id is not None:
            return self.client_id
        await self._drop()
        try:
            try:
                async with asyncio.timeout(self._connection.socket_connect_timeout):
                    await self._connection.connect()
            except TimeoutError:
                raise RedisTimeoutError("the server did not accept a connection in time; nothing was sent") from None
            self._connected = True
            self.client_id = int(await self._exchange(RedisCommand(("CLIENT ID",))))
        except BaseException:
            await self._drop()
            raise
        return self.client_id

    async def _exchange(self, command: RedisCommand) -> Any:
        limit = _limit(command, self._patience)
        try:
            async with asyncio.timeout(limit):
                await self._connection.send_command(*without_numbers(command.args), check_health=False)
                return await self._connection.read_response()
        except TimeoutError:
            raise _late(command, limit) from None

    async def _is_stale(self) -> bool:
        try:
            # redis-py 8 renamed the method, and warns about the old name
            can_read = getattr(self._connection, "can_read", None) or self._connection.can_read_destructive
            return bool(await can_read())
        except (RedisConnectionError, RedisTimeoutError, OSError):
            return True

    async def _drop(self) -> None:
        self._connected = False
        self.client_id = None
        await self._connection.disconnect(nowait=True)
