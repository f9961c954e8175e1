"""The proxy between actors and the server: an address per actor, and every command held until it is chosen.

It has no thread of its own: the execution loop calls `poll`. It never decides anything.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import assert_never

from pytest_redisq import interrupts
from pytest_redisq.explore.connection_state import ConnectionState, HeldCommand, PassedCommand, ProxyReply, RawStream
from pytest_redisq.explore.footprint import CommandTable
from pytest_redisq.explore.proxied_connection import ActorListeners, ProxiedConnection
from pytest_redisq.explore.schedule import Step, StepKind
from pytest_redisq.explore.script_cache import ScriptCache
from pytest_redisq.resp import Request, UnparsedBytes
from pytest_redisq.servers.server_connection import ServerClosedError, ServerConnection

_CHUNK_BYTES = 1 << 16


class Proxy:
    """Listens for the actors of one exploration.

    `delivered` is called with an actor's number whenever the actor gets bytes or an end of file. Both happen under
    `lock`, so that a thread that holds it has seen both or neither.
    """

    def __init__(
        self,
        server_url: str,
        commands: CommandTable,
        control: ServerConnection,
        delivered: Callable[[int], None],
        lock: threading.Lock,
    ) -> None:
        self._server_url = server_url
        self._commands = commands
        self._control = control
        self._delivered = delivered
        self._lock = lock
        # Not `selectors`: for so few sockets a bare poll is fastest, and this is the hottest call of an execution.
        self._poll = select.poll()
        self._handlers: dict[int, ProxiedConnection | tuple[socket.socket, int] | Callable[[], None]] = {}
        self._listeners = ActorListeners(lambda listener, actor: self._register(listener.fileno(), (listener, actor)))
        self._outbox: list[tuple[ProxiedConnection, bytes]] = []
        #: All open connections, the oldest first.
        self.connections: list[ProxiedConnection] = []
        #: Killed actors, which may not connect.
        self.banned: set[int] = set()
        self.scripts: ScriptCache = ScriptCache()
        #: The connections whose commands are delayed, or whose actors are paused.
        self.delayed: list[ProxiedConnection] = []
        #: Paused actors, and what they get when their pause ends.
        self.paused: dict[int, list[tuple[ProxiedConnection, bytes]]] = {}

    def close(self) -> None:
        """Close everything."""
        for connection in list(self.connections):
            self.cut(connection)
        self._listeners.close()

    def url(self, actor: int, *, tcp: bool = False) -> str:
        """The URL for the actor of this number, for the server's database; a unix socket unless `tcp`."""
        return self._listeners.url(actor, tcp=tcp)

    def serves(self, address: object) -> bool:
        """Whether actors connect to this address, as `getpeername` returns it."""
        return address in self._listeners.addresses

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Have `poll` call `callback` when `descriptor` is readable."""
        self._register(descriptor, callback)

    def _register(
        self, descriptor: int, handler: ProxiedConnection | tuple[socket.socket, int] | Callable[[], None]
    ) -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, select.POLLIN)

    def _unregister(self, descriptor: int) -> None:
        del self._handlers[descriptor]
        self._poll.unregister(descriptor)

    def poll(self, timeout_seconds: float) -> bool:
        """Read what actors have sent. Returns whether anything happened."""
        self.flush()
        ready = self._poll.poll(timeout_seconds * 1000)
        for descriptor, mask in ready:
            handler = self._handlers.get(descriptor)
            if isinstance(handler, ProxiedConnection):
                if mask & select.POLLOUT:
                    self._send_more(handler)
                if mask & ~select.POLLOUT:
                    self._take_in(handler)
            elif isinstance(handler, tuple):
                self._accept(*handler)
            elif handler:
                handler()
        return bool(ready)

    def of(self, actor: int) -> Iterator[ProxiedConnection]:
        """The actor's open connections."""
        return (connection for connection in self.connections if connection.actor == actor)

    def unanswered(self, actor: int) -> int:
        """How many commands of the actor have no reply yet. Any thread may ask."""
        return sum(each.actor == actor and bool(each.held or each.blocked) for each in list(self.connections))

    def connection_of(self, step: Step) -> ProxiedConnection | None:
        """The open connection that a step is about, if there is one."""
        for connection in self.connections:
            if connection.actor == step.actor and connection.number == step.connection:
                return connection
        return None

    @interrupts.deferred()
    def _accept(self, listener: socket.socket, actor: int) -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            if actor in self.banned:
                client.close()
                return
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setblocking(False)
            connection = ProxiedConnection(
                actor, client, ServerConnection.of(self._server_url), ConnectionState(self._commands)
            )
            self.connections.append(connection)
            self._register(client.fileno(), connection)

    def _take_in(self, connection: ProxiedConnection) -> None:
        if not connection.open:
            return
        try:
            data = connection.client.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._abandon(connection)
            return
        connection.queue.extend(connection.requests.feed(data))
        self.advance(connection)

    def _abandon(self, connection: ProxiedConnection) -> None:
        """Note that the client has closed its side. The server executes the commands that it has received, and serves a
        blocked command until the server notices that the client has gone.
        """
        if connection.raw or not (connection.held or connection.blocked):
            self.cut(connection, seen=False)
            return
        with interrupts.deferred():
            connection.abandoned, connection.enabled, connection.blocked_kind = True, None, StepKind.RUN
            self._unregister(connection.client.fileno())
            connection.client.close()

    def advance(self, connection: ProxiedConnection) -> None:
        """Process what the client has sent, up to the next command to hold."""
        while connection.open and connection.queue and not connection.held and not connection.blocked:
            command = connection.queue.popleft()
            try:
                if isinstance(command, UnparsedBytes) or connection.raw:
                    self._pass_rest(connection, command.raw)
                else:
                    self._decide(connection, command)
            except ServerClosedError:
                self.cut(connection)
        if connection.abandoned and not connection.held and not connection.blocked:
            self.cut(connection, seen=False)

    def _decide(self, connection: ProxiedConnection, command: Request) -> None:
        decision = connection.state.decide(command)
        match decision:
            case HeldCommand():
                connection.held, connection.enabled = decision, None
            case PassedCommand():
                connection.server.send(decision.raw)
                pushed, reply = connection.server.receive()
                self.give(connection, pushed + (reply if connection.state.shows_reply() else b""))
                if decision.ends:
                    self.cut(connection)
            case ProxyReply():
                self.give(connection, decision.reply)
            case RawStream():
                self._pass_rest(connection, decision.raw)
            case _:
                assert_never(decision)

    def _pass_rest(self, connection: ProxiedConnection, raw: bytes) -> None:
        """Forward bytes without parsing, and from now on all replies as well."""
        if not connection.raw:
            connection.raw = True
            self._register(connection.server.fileno(), lambda: self._pass_back(connection))
        connection.server.send(raw)

    def _pass_back(self, connection: ProxiedConnection) -> None:
        try:
            self.give(connection, connection.server.receive_raw())
        except ServerClosedError:
            self.cut(connection)

    def give(self, connection: ProxiedConnection, data: bytes) -> None:
        """Queue `data` for the client; `flush` or `poll` sends it."""
        if data and connection.open and not connection.abandoned:
            self.paused.get(connection.actor, self._outbox).append((connection, data))

    def flush(self) -> None:
        """Send what was queued, as far as the sockets take it; `poll` sends the rest.

        This is the last action of a step: a thread that wakes earlier would only compete for the interpreter's lock.
        """
        while self._outbox:
            outbox, self._outbox = self._outbox, []
            for connection, data in outbox:
                if connection.unsent:
                    connection.unsent += data
                elif connection.open and not connection.abandoned:
                    self._send(connection, data)
                    if connection.unsent:
                        self._poll.modify(connection.client, select.POLLIN | select.POLLOUT)

    def _send_more(self, connection: ProxiedConnection) -> None:
        if connection.open and connection.unsent:
            self._send(connection, connection.unsent)
            if connection.open and not connection.unsent:
                self._poll.modify(connection.client, select.POLLIN)

    def _send(self, connection: ProxiedConnection, data: bytes) -> None:
        try:
            with self._lock:
                sent = connection.client.send(data)
                self._delivered(connection.actor)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._abandon(connection)
            return
        connection.unsent = data[sent:]

    def cut(self, connection: ProxiedConnection, *, seen: bool = True) -> None:
        """Close both sides. A blocked command or a subscription gives the client nothing from now on.

        `seen=False`: the client closed first, so that it has nothing to react to.
        """
        self.flush()
        if not connection.open:
            return
        if connection.paused_until is not None:
            self.resume(connection)
        with interrupts.deferred():
            self._close(connection, seen=seen)

    def _close(self, connection: ProxiedConnection, *, seen: bool) -> None:
        connection.open = False
        self.connections.remove(connection)
        if not connection.abandoned:
            self._unregister(connection.client.fileno())
        if connection.raw:
            self._unregister(connection.server.fileno())
        with self._lock:
            connection.client.close()
            if seen and not connection.abandoned:
                self._delivered(connection.actor)
        if connection.blocked or connection.state.subscribed:
            with contextlib.suppress(ServerClosedError):
                self._control.kill(connection.server.client_id)
        connection.server.close()

    def ban(self, actor: int) -> None:
        """Close all connections of an actor, and refuse new ones."""
        self.banned.add(actor)
        for connection in list(self.of(actor)):
            self.cut(connection)

    def notice(self) -> None:
        """Have the server notice each client that has gone."""
        for connection in [each for each in self.connections if each.abandoned]:
            self.cut(connection, seen=False)

    def disconnect(self, connections: Iterable[ProxiedConnection]) -> None:
        """Have the server drop these connections, as CLIENT KILL does."""
        for connection in connections:
            self._control.kill(connection.server.client_id)
            self.cut(connection)

    def pause(self, connection: ProxiedConnection, now: float, until: float, *, whole_actor: bool) -> None:
        """Keep back the connection's command, and what comes for its actor if that stands still (`whole_actor`)."""
        connection.paused_at, connection.paused_until = now, until
        self.delayed.append(connection)
        if whole_actor:
            self.paused[connection.actor] = []

    def resume(self, connection: ProxiedConnection) -> None:
        """End the delay, or the pause: deliver what has come in the meantime."""
        connection.paused_until = None
        self.delayed.remove(connection)
        self._outbox += self.paused.pop(connection.actor, [])
