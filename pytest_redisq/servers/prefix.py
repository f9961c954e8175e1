"""Rewrites commands to stay inside a key prefix, so that a test's key "jobs" is safe on a server with other data.

Without IO. Laws:

- Every key of a command gets the prefix once. A name that already has the prefix is not changed.
- Keys in a reply have the names that the command used.
- A command that could affect keys outside the prefix is refused before it is sent. So is a script without declared
  keys.

Not covered: keys that a script uses without declaring them, and pub/sub channels, which are not keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_redisq.errors import ServerError
from pytest_redisq.servers.keyspec import CommandSpec

#: Converts a reply.
Undo = Callable[[Any], Any]

#: Commands without keys that change no data; subcommands after a bar. All other commands without keys are refused.
HARMLESS = frozenset(
    b"""
    AUTH HELLO PING ECHO QUIT RESET TIME LOLWUT MULTI EXEC DISCARD UNWATCH WAIT WAITAOF READONLY READWRITE
    ASKING PUBLISH SPUBLISH SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE INFO DBSIZE
    LASTSAVE ROLE SELECT COMMAND COMMAND|COUNT COMMAND|DOCS COMMAND|GETKEYS COMMAND|GETKEYSANDFLAGS COMMAND|INFO
    COMMAND|LIST PUBSUB PUBSUB|CHANNELS PUBSUB|NUMPAT PUBSUB|NUMSUB PUBSUB|SHARDCHANNELS PUBSUB|SHARDNUMSUB
    SCRIPT|LOAD SCRIPT|EXISTS FUNCTION|LIST CONFIG|GET CLIENT|ID CLIENT|INFO CLIENT|LIST CLIENT|GETNAME
    CLIENT|SETNAME CLIENT|SETINFO CLIENT|UNBLOCK CLIENT|TRACKING CLIENT|NO-EVICT CLIENT|NO-TOUCH
    CLIENT|MAINT_NOTIFICATIONS CLIENT|HELP ACL|WHOAMI ACL|CAT MEMORY|DOCTOR MEMORY|STATS OBJECT|HELP
    LATENCY|HISTORY SLOWLOG|GET SLOWLOG|LEN MODULE|LIST
    """.split()
)
#: Commands with keys that affect data outside the prefix: other databases, other servers.
FAR = frozenset({b"MIGRATE", b"MOVE"})
_CHANNELS = frozenset(b"SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE".split())
_NAMES_KEY_FIRST = frozenset(b"BLPOP BRPOP BZPOPMIN BZPOPMAX LMPOP BLMPOP ZMPOP BZMPOP".split())
_NAMES_STREAMS = frozenset({b"XREAD", b"XREADGROUP"})


class Prefixer:
    """The state of one connection: how to convert each pending reply, and those that a transaction delays."""

    def __init__(self, prefix: str, commands: Mapping[bytes, CommandSpec], database: int, seen: set[bytes]) -> None:
        self._prefix = prefix.encode()
        self._commands = commands
        self._database = database
        self._seen = seen
        self._pending: list[Undo] = []
        self._held: list[Undo] | None = None

    def reset(self) -> None:
        """Forget all pending replies, because the connection is closed."""
        self._pending.clear()
        self._held = None

    def send(self, args: Sequence[Any]) -> list[Any]:
        """The command to send in place of `args`. Raises ServerError if it could affect keys outside the prefix."""
        words = _words(args)
        name = self._name(words)
        sent, undo = self._rewrite(name, words)
        if name in _CHANNELS:
            return sent
        match name:
            case b"MULTI":
                self._held = []
                undo = _same
            case b"EXEC":
                undo = _undo_each(self._held or [])
                self._held = None
            case b"DISCARD" | b"RESET":
                self._held = None
            case _ if self._held is not None:
                self._held.append(undo)
                undo = _same
        self._pending.append(undo)
        return sent

    def receive(self, reply: Any) -> Any:
        """Convert the reply to the oldest pending command. A push message is not changed."""
        return self._pending.pop(0)(reply) if self._pending else reply

    def fail(self) -> None:
        """Note that the reply to the oldest pending command is an error."""
        if self._pending:
            self._pending.pop(0)

    def _name(self, words: Sequence[bytes]) -> bytes:
        first = words[0].upper()
        both = first + b"|" + words[1].upper() if len(words) > 1 else first
        return both if both in self._commands or both in HARMLESS else first

    def _rewrite(self, name: bytes, words: list[bytes]) -> tuple[list[bytes], Undo]:
        match name:
            case b"SORT" | b"SORT_RO":
                return self._prefixed(words, _sort_positions(words)), _same
            case b"KEYS" if len(words) == 2:
                return [words[0], _literal(self._prefix) + words[1]], self._undo_list
            case b"SCAN" if len(words) > 1:
                return self._scan(words), lambda reply: [reply[0], self._undo_list(reply[1])]
            case b"SELECT" if words[1:] != [b"%d" % self._database]:
                raise self._refusal(name)
        command = self._commands.get(name)
        positions = command.positions(words) if command else []
        inside = bool(positions) and name not in FAR and not (name == b"COPY" and b"DB" in _upper(words))
        if command and (not command.is_sure(words) or not (inside or name in HARMLESS)):
            raise self._refusal(name)
        return self._prefixed(words, positions), self._undo(name, {words[place] for place in positions})

    def _prefixed(self, words: list[bytes], positions: Sequence[int]) -> list[bytes]:
        sent = list(words)
        for place in positions:
            if not sent[place].startswith(self._prefix):
                sent[place] = self._prefix + sent[place]
            self._seen.add(sent[place])
        return sent

    def _scan(self, words: list[bytes]) -> list[bytes]:
        upper = _upper(words)
        sent = list(words)
        if b"MATCH" in upper[2:-1]:
            place = upper.index(b"MATCH", 2) + 1
            sent[place] = _literal(self._prefix) + sent[place]
            return sent
        return [*sent, b"MATCH", _literal(self._prefix) + b"*"]

    def _undo(self, name: bytes, asked: set[bytes]) -> Undo:
        def bare(key: Any) -> Any:
            return key if _bytes(key) in asked else self._bare(key)

        if name in _NAMES_KEY_FIRST:
            return lambda reply: [bare(reply[0]), *reply[1:]] if reply else reply
        if name in _NAMES_STREAMS:
            return lambda reply: _undo_streams(reply, bare)
        return _same

    def _undo_list(self, keys: Any) -> Any:
        return [self._bare(key) for key in keys]

    def _bare(self, key: Any) -> Any:
        return key.removeprefix(self._prefix.decode()) if isinstance(key, str) else key.removeprefix(self._prefix)

    def _refusal(self, name: bytes) -> ServerError:
        said = name.replace(b"|", b" ").decode(errors="replace")
        return ServerError(
            f"{said} is refused: this is your own server, and the command could affect keys outside this test's "
            f"namespace ({self._prefix.decode()}*).\n"
            "What to do: name the test's keys (DEL key...), or let redisq start a server (--redisq-server auto), "
            "where every command is allowed."
        )


def _words(args: Sequence[Any]) -> list[bytes]:
    """The words of a command as they are sent. redis-py joins some names with a space ("XGROUP CREATE")."""
    first, *rest = args
    return [*_bytes(first).split(), *map(_bytes, rest)]


def _bytes(value: Any) -> bytes:
    match value:
        case bytes():
            return value
        case memoryview() | bytearray():
            return bytes(value)
        case bool():
            raise TypeError(f"Redis does not accept {value!r}: convert it to a string or a number first.")
        case str() | int() | float():
            return (value if isinstance(value, str) else repr(value)).encode()
        case _:
            kind = type(value).__name__
            raise TypeError(f"Redis does not accept a {kind}: convert it to bytes, a string or a number first.")


def _upper(words: Sequence[bytes]) -> list[bytes]:
    return [word.upper() for word in words]


def _literal(text: bytes) -> bytes:
    """`text` as a glob pattern that matches only itself."""
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^" else bytes([byte]) for byte in text)


def _sort_positions(words: Sequence[bytes]) -> list[int]:
    """The positions of SORT's keys: the first, the one after STORE, and key patterns after BY and GET.

    Servers have no rule for them.
    """
    after = [place + 1 for place, word in enumerate(_upper(words[:-1])) if word in (b"STORE", b"BY", b"GET")]
    return [1, *(place for place in after if words[place - 1].upper() == b"STORE" or b"*" in words[place])]


def _same(reply: Any) -> Any:
    return reply


def _undo_each(undos: Sequence[Undo]) -> Undo:
    def undo(replies: Any) -> Any:
        if replies is None:
            return None
        return [
            reply if isinstance(reply, Exception) else each(reply) for each, reply in zip(undos, replies, strict=True)
        ]

    return undo


def _undo_streams(reply: Any, bare: Callable[[Any], Any]) -> Any:
    """Convert a reply of XREAD: pairs of name and entries in RESP2, a map in RESP3."""
    if isinstance(reply, dict):
        return {bare(name): entries for name, entries in reply.items()}
    return [[bare(name), entries] for name, entries in reply] if reply else reply
