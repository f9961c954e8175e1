"""Which keys a command reads and writes, as the server itself reports it, and whether two commands conflict.

Law: two commands are independent only if neither writes what the other reads or writes. Their order then changes
neither their replies nor the data. A command of unknown keys touches everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pytest_redisq.resp import Value
from pytest_redisq.servers.keyspec import CommandSpec, parse_commands

#: Stands for all keys.
EVERYTHING: Final = b"\xff*everything*\xff"
_CHANNEL: Final = b"\xff*channel*\xff"


@dataclass(frozen=True, slots=True)
class Footprint:
    """The keys that a command reads, and those that it writes. It may write a key without reading it."""

    reads: frozenset[bytes] = frozenset()
    writes: frozenset[bytes] = frozenset()

    @property
    def keys(self) -> frozenset[bytes]:
        """The keys, as far as they are known; none for a command of channels."""
        return frozenset(name for name in self.reads | self.writes if not name.startswith(b"\xff*"))

    def conflicts(self, other: Footprint) -> bool:
        """Whether the order of the two matters."""
        return _meet(self.writes, other.writes) or _meet(self.writes, other.reads) or _meet(self.reads, other.writes)

    def __or__(self, other: Footprint) -> Footprint:
        return Footprint(self.reads | other.reads, self.writes | other.writes)


def _meet(one: frozenset[bytes], two: frozenset[bytes]) -> bool:
    if not one or not two:
        return False
    return EVERYTHING in one or EVERYTHING in two or not one.isdisjoint(two)


NOTHING = Footprint()
ALL = Footprint(writes=frozenset([EVERYTHING]))
#: The footprint of a step at which a recorded operation began or ended, if the contract compares times of actors.
ON_RECORD = Footprint(writes=frozenset([b"\xff*record*\xff"]))
ALL_READ = Footprint(reads=frozenset([EVERYTHING]))

#: Commands without keys, whose effect no other command can see.
_HARMLESS = frozenset(b"PING ECHO TIME COMMAND LOLWUT WAIT WAITAOF ASKING READONLY READWRITE LASTSAVE".split())
_HARMLESS_SUB = {
    b"CONFIG": frozenset([b"GET"]),
    b"SCRIPT": frozenset([b"LOAD", b"EXISTS"]),
    b"OBJECT": frozenset([b"HELP"]),
}
#: Requests remembered at a time.
_REMEMBERED = 10_000


class CommandTable:
    """What the server reports about its commands (`COMMAND INFO`): footprints and flags.

    `ask` returns the server's entry for a name; each name is asked for once.
    """

    def __init__(self, ask: Callable[[bytes], Value]) -> None:
        self._ask = ask
        #: Per command, itself and its subcommands by name; empty if the server does not know it.
        self._commands: dict[bytes, Mapping[bytes, CommandSpec]] = {}
        #: Results for requests, by their bytes, because executions repeat the same requests.
        self.remembered: dict[bytes, object] = {}

    def remember(self, raw: bytes, found: object) -> None:
        """Cache a result for a request, unless too many are cached."""
        if len(self.remembered) >= _REMEMBERED:
            self.remembered.clear()
        self.remembered[raw] = found

    def flags(self, args: Sequence[bytes]) -> frozenset[bytes]:
        """What the server reports of a command, given with its arguments: "write", "blocking", "denyoom" …"""
        known = self._command(args[0].upper(), args[1].upper() if len(args) > 1 else b"")
        return frozenset() if known is None else frozenset(known.flags)

    def footprint(self, args: Sequence[bytes]) -> Footprint:
        """What a command, given with its arguments, touches."""
        name = args[0].upper()
        sub = args[1].upper() if len(args) > 1 else b""
        if name in _HARMLESS or sub in _HARMLESS_SUB.get(name, ()):
            return NOTHING
        command = self._command(name, sub)
        if command is None:
            return ALL
        if b"pubsub" in command.flags:
            return _channels(name, args)
        return _by_keys(command, args)

    def _command(self, name: bytes, sub: bytes = b"") -> CommandSpec | None:
        if name not in self._commands:
            entry = self._ask(name)
            self._commands[name] = parse_commands([entry] if isinstance(entry, list) else [])
        known = self._commands[name]
        return known.get(name + b"|" + sub) or known.get(name)


def _by_keys(command: CommandSpec, args: Sequence[bytes]) -> Footprint:
    whole = ALL_READ if b"readonly" in command.flags else ALL
    if not command.is_sure(args):
        return whole
    reads: set[bytes] = set()
    writes: set[bytes] = set()
    for spec in command.specs:
        # A command that writes writes some key of its own. XREADGROUP's only key is called read-only, but its groups
        # and pending entries live there: believe "read-only" only where another key can be what is written.
        only_read = b"readonly" in command.flags or (
            spec.reads and (b"write" not in command.flags or len(command.specs) > 1)
        )
        (reads if only_read else writes).update(args[at] for at in spec.positions(args))
    # A script without declared keys may touch any key.
    return Footprint(frozenset(reads), frozenset(writes)) if reads or writes else whole


def _channels(name: bytes, args: Sequence[bytes]) -> Footprint:
    if name in (b"PUBLISH", b"SPUBLISH") and len(args) > 1:
        return Footprint(writes=frozenset([_CHANNEL + args[1]]))
    if name in (b"SUBSCRIBE", b"SSUBSCRIBE", b"UNSUBSCRIBE", b"SUNSUBSCRIBE") and len(args) > 1:
        return Footprint(reads=frozenset(_CHANNEL + channel for channel in args[1:]))
    return ALL
