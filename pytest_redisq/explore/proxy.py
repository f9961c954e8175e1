"""The proxy between actors and the server: an address per actor, and every command held until it is chosen.

It has no thread of its own: whoever runs the schedule calls `poll` and `execute`. It never decides anything.
"""

from __future__ import annotations

import contextlib
import select
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from pytest_redisq.explore.footprint import Commands
from pytest_redisq.explore.schedule import Mark, Option
from pytest_redisq.explore.scripts import Scripts
from pytest_redisq.explore.session import Answer, Held, Pass, Session, Stream
from pytest_redisq.explore.upstream import GoneError, Upstream, listen_at
from pytest_redisq.resp import Request, RequestParser, UnparsedBytes, encode_command
from pytest_redisq.servers.scratch import scratch

_CHUNK_BYTES = 1 << 16
_FENCE = b"redisq-fence-6f1d"


@dataclass(eq=False, slots=True)
class Channel:
    """One connection of an actor, and ours to the server behind it."""

    actor: int
    client: socket.socket
    upstream: Upstream
    session: Session
    requests: RequestParser = field(default_factory=RequestParser)
    queue: deque[Request | UnparsedBytes] = field(default_factory=deque)
    #: The command that waits to be chosen.
    held: Held | None = None
    #: The command that waits in the server, and what will happen to its reply.
    blocked: Held | None = None
    fate: Mark = Mark.RUN
    #: When its time is up, on the schedule's clock; None: never.
    deadline: float | None = None
    #: When its actor, which stands still before the held command, goes on, on the same clock; None: it does not.
    paused_until: float | None = None
    #: Since when it has stood still.
    paused_at: float = 0.0
    #: Its number among its actor's connections in this run, from 1; 0: it has not held a command yet.
    lane: int = 0
    #: `held` as an option of the schedule, while nothing about it has changed.
    option: Option | None = None
    raw: bool = False
    unsent: bytes = b""
    open: bool = True


class Proxy:
    """Listens for the actors of one exploration.

    `delivered` is called with an actor's number whenever it has been given something to do: bytes, or an end of file.
    Both happen under `lock`, so that who holds it has either seen both or neither.
    """

    def __init__(
        self,
        server_url: str,
        commands: Commands,
        control: Upstream,
        delivered: Callable[[int], None],
        lock: threading.Lock,
    ) -> None:
        self._server_url = server_url
        self._commands = commands
        self._control = control
        self._delivered = delivered
        self._lock = lock
        # Not `selectors`: with so few sockets a bare poll is the cheapest, and this is the busiest line of a run.
        self._poll = select.poll()
        self._handlers: dict[int, Channel | tuple[socket.socket, int] | Callable[[], None]] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="explore-", dir=scratch())
        self._listeners: list[list[socket.socket]] = []
        self._urls: list[tuple[str, str]] = []
        self._outbox: list[tuple[Channel, bytes]] = []
        #: All open connections, in the order in which they came.
        self.channels: list[Channel] = []
        #: Actors that the server must not hear of any more.
        self.banned: set[int] = set()
        self.scripts = Scripts()
        #: Actors that stand still, and what they will be given when they go on.
        self.frozen: dict[int, list[tuple[Channel, bytes]]] = {}

    def close(self) -> None:
        """Close everything."""
        for channel in list(self.channels):
            self.cut(channel)
        for listener in [listener for pair in self._listeners for listener in pair]:
            listener.close()
        self._directory.cleanup()

    def url(self, actor: int, *, tcp: bool = False) -> str:
        """Where the `actor`-th actor finds its Redis, in the server's database; by a unix socket unless `tcp`."""
        while len(self._listeners) <= actor:
            self._listen(len(self._listeners))
        return self._urls[actor][tcp]

    def _listen(self, actor: int) -> None:
        made = [listen_at(Path(self._directory.name) / f"{actor}.sock"), listen_at(None)]
        for each, _ in made:
            self._register(each.fileno(), (each, actor))
        self._listeners.append([each for each, _ in made])
        self._urls.append((made[0][1], made[1][1]))

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Have `poll` call `callback` when `descriptor` is readable."""
        self._register(descriptor, callback)

    def _register(self, descriptor: int, handler: Channel | tuple[socket.socket, int] | Callable[[], None]) -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, select.POLLIN)

    def _unregister(self, descriptor: int) -> None:
        del self._handlers[descriptor]
        self._poll.unregister(descriptor)

    def poll(self, timeout_seconds: float) -> bool:
        """Take in what actors have sent; True if anything happened."""
        self.flush()
        ready = self._poll.poll(timeout_seconds * 1000)
        for descriptor, mask in ready:
            handler = self._handlers.get(descriptor)
            if isinstance(handler, Channel):
                if mask & select.POLLOUT:
                    self._send_more(handler)
                if mask & ~select.POLLOUT:
                    self._take_in(handler)
            elif isinstance(handler, tuple):
                self._accept(*handler)
            elif handler:
                handler()
        return bool(ready)

    def of(self, actor: int) -> Iterator[Channel]:
        """The actor's open connections."""
        return (channel for channel in self.channels if channel.actor == actor)

    def _accept(self, listener: socket.socket, actor: int) -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            if actor in self.banned:
                client.close()
                return
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setblocking(False)
            channel = Channel(actor, client, Upstream(self._server_url), Session(self._commands))
            self.channels.append(channel)
            self._register(client.fileno(), channel)

    def _take_in(self, channel: Channel) -> None:
        if not channel.open:
            return
        try:
            data = channel.client.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.cut(channel, seen=False)
            return
        channel.queue.extend(channel.requests.feed(data))
        self.advance(channel)

    def advance(self, channel: Channel) -> None:
        """Deal with what the client has sent, up to the next command that is to be held."""
        while channel.open and channel.queue and not channel.held and not channel.blocked:
            command = channel.queue.popleft()
            try:
                if isinstance(command, UnparsedBytes) or channel.raw:
                    self._pass_rest(channel, command.raw)
                else:
                    self._decide(channel, command)
            except GoneError:
                self.cut(channel)

    def _decide(self, channel: Channel, command: Request) -> None:
        decision = channel.session.decide(command)
        match decision:
            case Held():
                channel.held, channel.option = decision, None
            case Pass():
                channel.upstream.send(decision.raw)
                pushed, reply = channel.upstream.receive()
                self.give(channel, pushed + (reply if channel.session.shows_reply() else b""))
                if decision.ends:
                    self.cut(channel)
            case Answer():
                self.give(channel, decision.reply)
            case Stream():
                self._pass_rest(channel, decision.raw)
            case _:
                assert_never(decision)

    def _pass_rest(self, channel: Channel, raw: bytes) -> None:
        """Give the server what has no frames, and the client what the server says of it."""
        if not channel.raw:
            channel.raw = True
            self._register(channel.upstream.fileno(), lambda: self._pass_back(channel))
        channel.upstream.send(raw)

    def _pass_back(self, channel: Channel) -> None:
        try:
            self.give(channel, channel.upstream.receive_raw())
        except GoneError:
            self.cut(channel)

    def give(self, channel: Channel, data: bytes) -> None:
        """Have `data` sent to the client by the next `flush` or `poll`."""
        if data and channel.open:
            self.frozen.get(channel.actor, self._outbox).append((channel, data))

    def flush(self) -> None:
        """Send what was given, as far as it is taken; the rest follows in `poll`.

        Last of all that a step does: a thread that is woken while we still compute would only wait for us.
        """
        while self._outbox:
            outbox, self._outbox = self._outbox, []
            for channel, data in outbox:
                if channel.unsent:
                    channel.unsent += data
                elif channel.open:
                    self._send(channel, data)
                    if channel.unsent:
                        self._poll.modify(channel.client, select.POLLIN | select.POLLOUT)

    def _send_more(self, channel: Channel) -> None:
        if channel.open and channel.unsent:
            self._send(channel, channel.unsent)
            if channel.open and not channel.unsent:
                self._poll.modify(channel.client, select.POLLIN)

    def _send(self, channel: Channel, data: bytes) -> None:
        try:
            with self._lock:
                sent = channel.client.send(data)
                self._delivered(channel.actor)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.cut(channel, seen=False)
            return
        channel.unsent = data[sent:]

    def cut(self, channel: Channel, *, seen: bool = True) -> None:
        """Close both sides. What it was blocked in, or subscribed to, gives it nothing from now on.

        It is not `seen` where the client was the first to close: that gives it nothing to do.
        """
        self.flush()
        if not channel.open:
            return
        if channel.paused_until is not None:
            self.thaw(channel)
        channel.open = False
        self.channels.remove(channel)
        self._unregister(channel.client.fileno())
        if channel.raw:
            self._unregister(channel.upstream.fileno())
        with self._lock:
            channel.client.close()
            if seen:
                self._delivered(channel.actor)
        if channel.blocked or channel.session.subscribed:
            with contextlib.suppress(GoneError):
                self._control.kill(channel.upstream.client_id)
        channel.upstream.close()

    def ban(self, actor: int) -> None:
        """Cut all connections of an actor, and let none begin."""
        self.banned.add(actor)
        for channel in list(self.of(actor)):
            self.cut(channel)

    def disconnect(self, channels: Iterable[Channel]) -> None:
        """Have the server drop connections, as CLIENT KILL does."""
        for channel in channels:
            self._control.kill(channel.upstream.client_id)
            self.cut(channel)

    def freeze(self, channel: Channel, now: float, until: float) -> None:
        """Give its actor nothing any more, as one that stands still takes nothing in."""
        channel.paused_at, channel.paused_until = now, until
        self.frozen[channel.actor] = []

    def thaw(self, channel: Channel) -> None:
        """Its actor goes on, and is given what has come meanwhile."""
        channel.paused_until = None
        self._outbox += self.frozen.pop(channel.actor)

    def execute(self, channel: Channel, mark: Mark) -> bytes:
        """Send the held command to the server, and what comes back to the client, as `mark` wants it.

        Gives the reply; nothing where there is none or where the command blocks now.
        """
        held = channel.held
        assert held is not None
        if mark is Mark.LOSE_REQUEST:
            self.cut(channel)
            return b""
        if mark is Mark.KILL_BEFORE:
            self.ban(channel.actor)
            return b""
        if mark is Mark.DISCONNECT:
            self.disconnect(tuple(self.of(channel.actor)))
            return b""
        if mark is Mark.FLUSH_SCRIPTS:
            self.scripts.forget()
        channel.held = None
        if forgotten := self.scripts.answer(held.args):
            self._finish(channel, b"", forgotten, mark)
            return forgotten
        try:
            channel.upstream.send(held.raw)
            if held.subscribes:
                return self._settle_subscription(channel, mark)
            if held.blocks and self._blocks(channel):
                channel.blocked, channel.fate = held, mark
                return b""
            pushed, reply = channel.upstream.receive()
        except GoneError:
            self.cut(channel)
            return b""
        self._finish(channel, pushed, reply, mark)
        return reply

    def _settle_subscription(self, channel: Channel, mark: Mark) -> bytes:
        reply = self._fenced(channel)
        self._finish(channel, b"", reply, mark)
        return reply

    def _fenced(self, channel: Channel) -> bytes:
        channel.upstream.send(encode_command(["PING", _FENCE]))
        return channel.upstream.receive_until(_FENCE)

    def push_messages(self) -> None:
        """Pass on what a step has published: a PING behind it tells that all of it has come."""
        subscribed = [channel for channel in self.channels if channel.session.subscribed]
        for channel in [channel for channel in subscribed if not channel.blocked]:
            try:
                self.give(channel, self._fenced(channel))
            except GoneError:
                self.cut(channel)

    def _blocks(self, channel: Channel) -> bool:
        """Whether the server has blocked the client; otherwise its reply is there."""
        client_id = channel.upstream.client_id
        while not channel.upstream.readable():
            if client_id in self._control.blocked([client_id]):
                return True
        return False

    def woken(self, candidates: list[Channel]) -> list[tuple[Channel, Held, bytes]]:
        """Those of the blocked that a step has woken, their commands and the replies, which are passed on."""
        ids = [channel.upstream.client_id for channel in candidates]
        still = self._control.blocked(ids)
        return [self.unblock(channel) for channel in candidates if channel.upstream.client_id not in still]

    def time_out(self, channel: Channel) -> tuple[Channel, Held, bytes]:
        """End a blocked command as its timeout would."""
        self._control.ask("CLIENT", "UNBLOCK", channel.upstream.client_id, "TIMEOUT")
        return self.unblock(channel)

    def unblock(self, channel: Channel) -> tuple[Channel, Held, bytes]:
        """Pass on the reply that has come for a blocked command."""
        held, fate = channel.blocked, channel.fate
        assert held is not None
        channel.blocked, channel.fate, channel.deadline = None, Mark.RUN, None
        try:
            pushed, reply = channel.upstream.receive()
        except GoneError:
            self.cut(channel)
            return channel, held, b""
        self._finish(channel, pushed, reply, fate)
        return channel, held, reply

    def _finish(self, channel: Channel, pushed: bytes, reply: bytes, mark: Mark) -> None:
        if mark is Mark.KILL_AFTER:
            self.ban(channel.actor)
        elif mark is Mark.LOSE_REPLY:
            self.cut(channel)
        elif mark is Mark.CUT_REPLY:
            self.give(channel, pushed + reply[: len(reply) // 2])
            self.cut(channel)
        else:
            data = pushed + (reply if channel.session.shows_reply() else b"")
            self.give(channel, data)
            self.advance(channel)
