"""Executes held commands: sends them to the server, and their replies to the actors, as the kind of step demands."""

from __future__ import annotations

from collections.abc import Callable

from pytest_redisq.explore.connection_state import HeldCommand
from pytest_redisq.explore.error_replies import ERROR_REPLIES, error_reply
from pytest_redisq.explore.key_faults import KEY_FAULTS, strike
from pytest_redisq.explore.proxied_connection import ProxiedConnection
from pytest_redisq.explore.proxy import Proxy
from pytest_redisq.explore.schedule import StepKind
from pytest_redisq.explore.schedule_clock import ScheduleClock
from pytest_redisq.resp import encode_command
from pytest_redisq.servers.server_connection import ServerClosedError, ServerConnection

_FENCE = b"redisq-fence-6f1d"


class CommandExecutor:
    """Executes the commands that `proxy` holds. `control`: a connection to the same server; `unix_time`: the schedule's
    time of day, in seconds."""

    def __init__(self, proxy: Proxy, control: ServerConnection, unix_time: Callable[[], float]) -> None:
        self._proxy = proxy
        self._control = control
        #: Whether the last command was to be struck by a fault of keys, but there was no key or group to take away.
        self.missed: bool = False
        self.clock: ScheduleClock = ScheduleClock(unix_time, proxy.scripts, control)

    def execute(self, connection: ProxiedConnection, kind: StepKind) -> bytes:
        """Send the held command to the server, and its reply to the client, as the kind of step demands.

        Returns the reply; empty if there is none, or if the command blocks.
        """
        held = connection.held
        assert held is not None
        self.missed = False
        if kind is StepKind.LOSE_REQUEST:
            self._proxy.cut(connection)
            return b""
        if kind is StepKind.KILL_BEFORE:
            self._proxy.ban(connection.actor)
            return b""
        if kind is StepKind.DISCONNECT:
            self._proxy.disconnect(tuple(self._proxy.of(connection.actor)))
            return b""
        if kind is StepKind.FLUSH_SCRIPTS:
            self._proxy.scripts.forget()
        connection.held = None
        if kind in KEY_FAULTS:
            self.missed = not strike(kind, held, self._control)
        if kind in ERROR_REPLIES:
            return self._refuse(connection, held, kind)
        if answer := self._proxy.scripts.answer(held.args) or self.clock.reply(held.args):
            self._finish(connection, b"", answer, kind)
            return answer
        try:
            connection.server.send(self.clock.request(held))
            if held.subscribes:
                return self._settle_subscription(connection, kind)
            if held.blocks and self._blocks(connection):
                connection.blocked, connection.blocked_kind = held, kind
                return b""
            pushed, reply = connection.server.receive()
            if again := self.clock.again(held, reply):
                connection.server.send(again)
                pushed, reply = connection.server.receive()
            reply = self.clock.answered(held, reply)
        except ServerClosedError:
            self._proxy.cut(connection)
            return b""
        self._finish(connection, pushed, reply, kind)
        return reply

    def _refuse(self, connection: ProxiedConnection, held: HeldCommand, kind: StepKind) -> bytes:
        """Answer the command with an error. A refused EXEC also ends the transaction."""
        address = self._proxy.url(connection.actor, tcp=True).partition("//")[2]
        reply = error_reply(kind, held, address=address)
        if held.args[0].upper() == b"EXEC":
            connection.server.send(encode_command(["DISCARD"]))
            connection.server.receive()
        self._finish(connection, b"", reply, kind)
        return reply

    def _settle_subscription(self, connection: ProxiedConnection, kind: StepKind) -> bytes:
        reply = self._fenced(connection)
        self._finish(connection, b"", reply, kind)
        return reply

    def _fenced(self, connection: ProxiedConnection) -> bytes:
        connection.server.send(encode_command(["PING", _FENCE]))
        return connection.server.receive_until(_FENCE)

    def push_messages(self) -> None:
        """Forward the messages that a step has published. A PING behind the step tells that all of them have come."""
        subscribed = [connection for connection in self._proxy.connections if connection.state.subscribed]
        for connection in [each for each in subscribed if not each.blocked and not each.abandoned]:
            try:
                self._proxy.give(connection, self._fenced(connection))
            except ServerClosedError:
                self._proxy.cut(connection)

    def _blocks(self, connection: ProxiedConnection) -> bool:
        """Whether the server has blocked the client; otherwise the reply has come."""
        client_id = connection.server.client_id
        while not connection.server.readable():
            if client_id in self._control.blocked([client_id]):
                return True
        return False

    def woken(self, candidates: list[ProxiedConnection]) -> list[tuple[ProxiedConnection, HeldCommand, bytes]]:
        """The blocked commands that a step has ended, with their replies, which are forwarded."""
        ids = [connection.server.client_id for connection in candidates]
        still = self._control.blocked(ids)
        return [self.unblock(connection) for connection in candidates if connection.server.client_id not in still]

    def time_out(self, connection: ProxiedConnection) -> tuple[ProxiedConnection, HeldCommand, bytes]:
        """End a blocked command as its timeout would."""
        self._control.ask("CLIENT", "UNBLOCK", connection.server.client_id, "TIMEOUT")
        return self.unblock(connection)

    def unblock(self, connection: ProxiedConnection) -> tuple[ProxiedConnection, HeldCommand, bytes]:
        """Forward the reply of a blocked command."""
        held, blocked_kind = connection.blocked, connection.blocked_kind
        assert held is not None
        connection.blocked, connection.blocked_kind, connection.deadline = None, StepKind.RUN, None
        try:
            pushed, reply = connection.server.receive()
        except ServerClosedError:
            self._proxy.cut(connection)
            return connection, held, b""
        reply = self.clock.answered(held, reply)
        self._finish(connection, pushed, reply, blocked_kind)
        return connection, held, reply

    def _finish(self, connection: ProxiedConnection, pushed: bytes, reply: bytes, kind: StepKind) -> None:
        if kind is StepKind.KILL_AFTER:
            self._proxy.ban(connection.actor)
        elif kind is StepKind.LOSE_REPLY:
            self._proxy.cut(connection)
        elif kind is StepKind.CUT_REPLY:
            self._proxy.give(connection, pushed + reply[: len(reply) // 2])
            self._proxy.cut(connection)
        else:
            data = pushed + (reply if connection.state.shows_reply() else b"")
            self._proxy.give(connection, data)
            self._proxy.advance(connection)
