"""Ages the server's data by virtual time: keys expire, and pending entries have been idle.

The server's own clock hardly moves during an execution, so deadlines are brought nearer instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pytest_redisq.explore.footprint import EVERYTHING, Footprint
from pytest_redisq.resp import Value
from pytest_redisq.servers.server_connection import ServerConnection

_Ask = tuple[str | bytes | int | float, ...]
#: Commands that may leave entries pending, also by commands inside of them.
_PENDING = frozenset(b"XREADGROUP XCLAIM XAUTOCLAIM XGROUP EVAL EVALSHA FCALL EXEC".split())
#: Commands that take over entries idle for so many milliseconds, and the position of that argument.
_CLAIMS = frozenset([b"XCLAIM", b"XAUTOCLAIM"])
_CLAIMS_IDLE_AT = 4
#: No claim that was not seen waits for longer, in seconds.
_CLAIMS_SECONDS = 86_400.0
#: The most pending entries per group that are aged.
_ENTRIES = 10_000


class ServerTime:
    """Knows the keys that an execution has written, and ages them. `others` returns further keys that may expire."""

    def __init__(self, control: ServerConnection, others: Callable[[], Iterable[bytes]] = tuple) -> None:
        self._control = control
        self._others = others
        self._keys: set[bytes] = set()
        self._streams: set[bytes] = set()
        #: The longest lease seen: a time for which a key had yet to live, or an entry to be idle before it was claimed.
        self.lease_seconds: float = 0.0

    def touch(self, args: Sequence[bytes], effect: Footprint) -> None:
        """Note that a command has written these keys."""
        keys = effect.writes - {EVERYTHING}
        self._keys |= keys
        name = args[0].upper()
        if name in _PENDING:
            self._streams |= keys
        if name in _CLAIMS and len(args) > _CLAIMS_IDLE_AT and args[_CLAIMS_IDLE_AT].isdigit():
            self.lease_seconds = max(self.lease_seconds, int(args[_CLAIMS_IDLE_AT]) / 1000)

    def advance(self, seconds: float) -> None:
        """Age the keys by so many seconds."""
        milliseconds = round(seconds * 1000)
        self._expire(sorted({*self._keys, *self._others()}), milliseconds)
        for stream in sorted(self._streams):
            self._idle(stream, milliseconds)

    def outlast_claims(self) -> None:
        """Make pending entries so old that any claim takes them over. No other time passes."""
        for stream in sorted(self._streams):
            self._idle(stream, round(max(_CLAIMS_SECONDS, self.lease_seconds) * 1000))

    def _expire(self, keys: list[bytes], milliseconds: int) -> None:
        lives = self._control.ask_all([("PTTL", key) for key in keys]) if keys else []
        left = [(key, life) for key, life in zip(keys, lives, strict=True) if isinstance(life, int) and life > 0]
        self.lease_seconds = max([self.lease_seconds, *(life / 1000 for _, life in left)])
        commands: list[_Ask] = [
            ("PEXPIRE", key, life - milliseconds) if life > milliseconds else ("DEL", key) for key, life in left
        ]
        if commands:
            self._control.ask_all(commands)

    def _idle(self, stream: bytes, milliseconds: int) -> None:
        names = group_names(self._control, stream)
        if not names:
            return
        pending = self._control.ask_all([("XPENDING", stream, name, "-", "+", _ENTRIES) for name in names])
        commands: list[_Ask] = []
        for name, entries in zip(names, pending, strict=True):
            for entry in _items(entries):
                match entry:
                    case [bytes(number), bytes(consumer), int(idle), int()]:
                        age = idle + milliseconds
                        commands.append(("XCLAIM", stream, name, consumer, 0, number, "IDLE", age, "JUSTID"))
        if commands:
            self._control.ask_all(commands)


def group_names(control: ServerConnection, stream: bytes) -> list[bytes]:
    """The names of a stream's consumer groups; none for another key."""
    (groups,) = control.ask_all([("XINFO", "GROUPS", stream)])
    return [name for group in _items(groups) if isinstance(name := field(group, b"name"), bytes)]


def _items(value: Value) -> Iterable[Value]:
    return value if isinstance(value, list) else []


def field(value: Value, name: bytes) -> Value:
    """A field of a reply that is a map, or a list of names and values; None if it is not there."""
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, list) and name in value:
        return value[value.index(name) + 1]
    return None
