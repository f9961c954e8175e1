"""The state of one client connection: it decides which commands are steps of the schedule, and which only set it up.

Commands in, decisions out; no IO. Laws:

- A command that no other connection can notice (HELLO, AUTH, SELECT, MULTI and what it queues, …) passes at once.
- EXEC is one step, with the footprint of all that was queued and watched. A script is one step, too.
- A blocking command goes to the server without its timeout: virtual time decides when it ends, not the server's clock.
- The proxy answers CLIENT REPLY itself. It must see every reply, and shows the client only those that it asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from pytest_redisq.explore.footprint import NOTHING, CommandTable, Footprint
from pytest_redisq.resp import Request, encode_command

_SET_UP = frozenset(b"HELLO AUTH SELECT PING ECHO QUIT COMMAND READONLY READWRITE ASKING MULTI DISCARD UNWATCH".split())
_CLIENT_SET_UP = frozenset(
    b"SETINFO SETNAME GETNAME ID INFO TRACKING TRACKINGINFO CACHING GETREDIR NO-EVICT NO-TOUCH "
    b"MAINT_NOTIFICATIONS HELP CAPA".split()
)
_SUBSCRIBES = frozenset(b"SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE".split())
#: After these commands the server sends a stream that is not made of replies.
_STREAMS = frozenset([b"MONITOR", b"SYNC", b"PSYNC"])
#: The position of the timeout in blocking commands, and its units per second.
_TIMEOUTS = {
    b"BLPOP": (-1, 1),
    b"BRPOP": (-1, 1),
    b"BRPOPLPUSH": (-1, 1),
    b"BLMOVE": (-1, 1),
    b"BZPOPMIN": (-1, 1),
    b"BZPOPMAX": (-1, 1),
    b"BLMPOP": (1, 1),
    b"BZMPOP": (1, 1),
    b"WAIT": (2, 1000),
    b"WAITAOF": (3, 1000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCommand:
    """A command that waits to be chosen. `raw` is what the server will get.

    `blocks`: whether it may block there; `timeout_seconds`: the client's timeout, None: without limit. `flags`: the
    command's flags as the server reports them; for EXEC, the flags of the queued commands.
    """

    args: tuple[bytes, ...]
    raw: bytes
    footprint: Footprint
    blocks: bool = False
    timeout_seconds: float | None = None
    subscribes: bool = False
    flags: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class PassedCommand:
    """A command that goes to the server at once; `ends`: the server closes the connection after it."""

    raw: bytes
    ends: bool = False


@dataclass(frozen=True, slots=True)
class ProxyReply:
    """A reply that the proxy gives itself; empty: no reply."""

    reply: bytes


@dataclass(frozen=True, slots=True)
class RawStream:
    """From this command on, both directions are forwarded without parsing."""

    raw: bytes


Decision: TypeAlias = HeldCommand | PassedCommand | ProxyReply | RawStream


class ConnectionState:
    """Decides what each command of one connection means."""

    def __init__(self, commands: CommandTable) -> None:
        self._commands = commands
        self._stepped = False
        #: Whether its setup has changed, so that the next execution must not use it.
        self.changed: bool = False
        self._reset()

    def _reset(self) -> None:
        self._queued: list[tuple[bytes, ...]] | None = None
        self._transaction = NOTHING
        self._flags = frozenset[bytes]()
        self._watched = NOTHING
        self._replies: Literal["on", "off", "skip", "skip-next"] = "on"
        #: Whether the server may send messages that are not replies.
        self.subscribed: bool = False

    @property
    def reusable(self) -> bool:
        """Whether the next execution would find the connection as if it were new."""
        tidy = self._queued is None and self._watched == NOTHING and self._replies == "on"
        return tidy and not self.changed and not self.subscribed

    def decide(self, command: Request) -> Decision:
        """What to do with the next command."""
        if not command.args:
            return ProxyReply(b"")
        name = command.args[0].upper()
        sub = command.args[1].upper() if len(command.args) > 1 else b""
        if name == b"RESET":
            self._reset()
            self.changed = True
            return PassedCommand(command.raw)
        if name == b"CLIENT" and sub == b"REPLY":
            return self._reply_mode(command)
        if self._queued is not None and name != b"DISCARD":
            return self._in_transaction(name, command)
        if name in _STREAMS:
            self.changed = True
            return RawStream(command.raw)
        if name in _SET_UP or (name == b"CLIENT" and sub in _CLIENT_SET_UP):
            return self._set_up(name, sub, command)
        self._stepped = True
        return self._hold(name, command)

    def shows_reply(self) -> bool:
        """Whether the client gets the reply to the last command."""
        if self._replies == "skip-next":
            self._replies = "skip"
            return True
        if self._replies == "skip":
            self._replies = "on"
            return False
        return self._replies == "on"

    def _reply_mode(self, command: Request) -> Decision:
        mode = command.args[2].upper() if len(command.args) == 3 else b""
        if mode == b"ON":
            self._replies = "on"
            return ProxyReply(b"+OK\r\n")
        if mode == b"OFF":
            self._replies = "off"
            return ProxyReply(b"")
        if mode == b"SKIP":
            if self._replies == "on":
                self._replies = "skip"
            return ProxyReply(b"")
        return PassedCommand(command.raw)

    def _set_up(self, name: bytes, sub: bytes, command: Request) -> PassedCommand:
        match name:
            case b"MULTI":
                self._queued, self._transaction, self._flags = [], NOTHING, frozenset()
            case b"DISCARD":
                self._queued, self._watched = None, NOTHING
            case b"UNWATCH":
                self._watched = NOTHING
            case b"CLIENT" if sub in (b"TRACKING", b"MAINT_NOTIFICATIONS"):
                self.subscribed |= sub == b"TRACKING"
                self.changed |= self._stepped
            case b"PING" | b"ECHO" | b"COMMAND" | b"CLIENT":
                self.changed |= self._stepped and sub.startswith((b"SET", b"NO-"))
            case _:
                self.changed |= self._stepped
        return PassedCommand(command.raw, ends=name == b"QUIT")

    def _in_transaction(self, name: bytes, command: Request) -> Decision:
        assert self._queued is not None
        if name != b"EXEC":
            self._queued.append(command.args)
            self._transaction |= self._commands.footprint(command.args)
            self._flags |= self._commands.flags(command.args) - {b"loading"}
            return PassedCommand(command.raw)
        args = (b"EXEC", *(b" ".join(queued) for queued in self._queued))
        footprint = self._transaction | self._watched
        self._queued, self._watched, self._stepped = None, NOTHING, True
        flags = self._flags
        self._flags = frozenset()
        return HeldCommand(args=args, raw=command.raw, footprint=footprint, flags=flags)

    def _hold(self, name: bytes, command: Request) -> HeldCommand:
        held = self._commands.remembered.get(command.raw)
        if not isinstance(held, HeldCommand):
            held = _hold(self._commands, name, command)
            self._commands.remember(command.raw, held)
        if name == b"WATCH":
            self._watched |= held.footprint
        self.subscribed |= held.subscribes
        return held


def _hold(commands: CommandTable, name: bytes, command: Request) -> HeldCommand:
    plain = HeldCommand(
        args=command.args,
        raw=command.raw,
        footprint=commands.footprint(command.args),
        subscribes=name in _SUBSCRIBES,
        flags=commands.flags(command.args),
    )
    # Redis 7.0 does not call WAIT blocking.
    return _without_timeout(name, plain) if b"blocking" in plain.flags or name in _TIMEOUTS else plain


def _without_timeout(name: bytes, plain: HeldCommand) -> HeldCommand:
    """The blocking command without its timeout, and the client's timeout."""
    args = list(plain.args)
    at, per_second = _timeout_place(name, args)
    if at is None:
        return plain  # XREAD without BLOCK, or a command that the server will refuse
    try:
        timeout = float(args[at]) / per_second
    except (ValueError, IndexError):
        return plain
    if not 0 <= timeout < float("inf"):
        return plain
    if timeout:
        args[at] = b"0"
    raw = encode_command(args) if timeout else plain.raw
    return replace(plain, raw=raw, blocks=True, timeout_seconds=timeout or None)


def _timeout_place(name: bytes, args: Sequence[bytes]) -> tuple[int | None, int]:
    if name in (b"XREAD", b"XREADGROUP"):
        for at, word in enumerate(args[1:-1], 1):
            if word.upper() == b"STREAMS":
                break
            if word.upper() == b"BLOCK":
                return at + 1, 1000
        return None, 1
    return _TIMEOUTS.get(name, (None, 1))
