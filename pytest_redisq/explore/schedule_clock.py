"""The server's clock as actors see it: TIME, also in scripts, and the ids of XADD are those of the schedule.

The server keeps its own clock. So the proxy answers TIME, gives XADD the id that a server with the schedule's clock
would make, and passes the time to scripts. What goes by the server's own clock nevertheless is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pytest_redisq.explore.connection_state import HeldCommand
from pytest_redisq.explore.script_cache import ScriptCache
from pytest_redisq.explore.server_time import field
from pytest_redisq.resp import ReplyError, encode_command
from pytest_redisq.servers.server_connection import ServerConnection

#: Options of XADD that stand before the entry's id, and how many words follow each.
_XADD_OPTIONS = {b"NOMKSTREAM": 0, b"KEEPREF": 0, b"DELREF": 0, b"ACKED": 0, b"MAXLEN": 1, b"MINID": 1, b"LIMIT": 1}
#: What the server says of an id that is not the stream's greatest.
_TOO_SMALL = b"-ERR The ID specified in XADD is equal or smaller"


#: Stands before the text of a script that asks for the time: `redis.call("TIME")` returns what are the last two
#: arguments.
_VIRTUAL_TIME = b"""\
local _server, _microseconds, _seconds = redis, table.remove(ARGV), table.remove(ARGV); \
local function _or_time(call) return function(name, ...) \
if type(name) == 'string' and name:upper() == 'TIME' then return {_seconds, _microseconds} end \
return call(name, ...) end end; \
local redis = setmetatable({call = _or_time(redis.call), pcall = _or_time(redis.pcall)}, {__index = _server}); \
"""
_SCRIPTS = {b"EVAL": b"EVAL", b"EVALSHA": b"EVAL", b"EVAL_RO": b"EVAL_RO", b"EVALSHA_RO": b"EVAL_RO"}
#: What the server does by its own clock, for the report of an exploration.
FUNCTIONS = "the clock of functions (FCALL)"
UNKNOWN_SCRIPTS = "the clock of scripts that were loaded by other clients (EVALSHA)"
TRANSACTIONS = "TIME and the ids of XADD in a transaction"


#: How a reply without entries begins.
_EMPTY = (b"*-1", b"*0", b"_", b"$-1", b":", b"+", b"-")
#: A consumer in the reply to XINFO CONSUMERS, in both protocols, and its times.
_CONSUMER = re.compile(
    rb"\$4\r\nname\r\n\$(?P<length>\d+)\r\n(?P<rest>.*?)\r\n\$7\r\npending\r\n:\d+\r\n"
    rb"(?P<fields>\$4\r\nidle\r\n:\d+(?:\r\n\$8\r\ninactive\r\n:-?\d+)?)",
    re.DOTALL,
)
_AGE = re.compile(rb"(\$\d\r\n(idle|inactive)\r\n:)-?\d+")


class ScheduleClock:
    """The clock of one execution.

    * `unix_time`: returns the schedule's time of day, in seconds.
    * `scripts`: knows the texts of scripts.
    * `control`: a connection to the server.
    """

    def __init__(self, unix_time: Callable[[], float], scripts: ScriptCache, control: ServerConnection) -> None:
        self._unix_time = unix_time
        self._scripts = scripts
        self._control = control
        self._consumers = _Consumers(unix_time)
        #: What has gone by the server's own clock.
        self.uncontrolled: set[str] = set()

    def reply(self, args: Sequence[bytes]) -> bytes | None:
        """The reply to TIME; None for another command."""
        return encode_command(self._time()) if args[0].upper() == b"TIME" and len(args) == 1 else None

    def _time(self) -> list[str]:
        return [str(part) for part in divmod(round(self._unix_time() * 1_000_000), 1_000_000)]

    def request(self, held: HeldCommand) -> bytes:
        """What the server gets: the command, with an id in place of the `*` of XADD, or with a script's time."""
        name = held.args[0].upper()
        if name == b"XADD" and (at := _id_place(held.args)):
            return encode_command([*held.args[:at], b"%d-*" % (self._unix_time() * 1000), *held.args[at + 1 :]])
        if name in _SCRIPTS and len(held.args) > 1:
            return self._script(name, held)
        if name in (b"FCALL", b"FCALL_RO"):
            self.uncontrolled.add(FUNCTIONS)
        if name == b"EXEC" and any(_reads_clock(queued.split()) for queued in held.args[1:]):
            self.uncontrolled.add(TRANSACTIONS)
        return held.raw

    def _script(self, name: bytes, held: HeldCommand) -> bytes:
        by_hash = name.startswith(b"EVALSHA")
        text = self._scripts.text(held.args[1]) if by_hash else held.args[1]
        if text is None:
            self.uncontrolled.add(UNKNOWN_SCRIPTS)
        if text is None or b"TIME" not in text.upper():
            return held.raw
        # The server must know the script itself afterwards, or else say that it does not.
        word, script = ("EXISTS", held.args[1]) if by_hash else ("LOAD", text)
        (known,) = self._control.ask_all([("SCRIPT", word, script)])
        if known == [0] or isinstance(known, ReplyError):
            return held.raw
        first, line_end, rest = text.partition(b"\n") if text.startswith(b"#!") else (b"", b"", text)
        timed = first + line_end + _VIRTUAL_TIME + rest
        return encode_command([_SCRIPTS[name], timed, *held.args[2:], *self._time()])

    def again(self, held: HeldCommand, reply: bytes) -> bytes | None:
        """The request to send after a refusal, because the stream has an entry of a later time: the id after its last.

        None: the command was not refused so.
        """
        if not reply.startswith(_TOO_SMALL) or not (at := _id_place(held.args)):
            return None
        last = field(self._control.ask("XINFO", "STREAM", held.args[1]), b"last-generated-id")
        assert isinstance(last, bytes)
        milliseconds, _, number = last.partition(b"-")
        return encode_command([*held.args[:at], b"%s-%d" % (milliseconds, int(number) + 1), *held.args[at + 1 :]])

    def answered(self, held: HeldCommand, reply: bytes) -> bytes:
        """The reply that the client gets: in that to XINFO CONSUMERS the times are the schedule's."""
        if held.args[0][:1] not in (b"X", b"x"):
            return reply
        if [word.upper() for word in held.args[:2]] == [b"XINFO", b"CONSUMERS"]:
            return self._consumers.aged(held.args[2:4], reply)
        self._consumers.note(held.args, is_empty=reply.startswith(_EMPTY))
        return reply


class _Consumers:
    """When the consumers of streams were last seen, and last got an entry, in the schedule's time."""

    def __init__(self, unix_time: Callable[[], float]) -> None:
        self._unix_time = unix_time
        self._times: dict[tuple[bytes, ...], dict[bytes, float]] = {}

    def note(self, args: Sequence[bytes], *, is_empty: bool) -> None:
        """Note a command of a consumer; `is_empty`: it got nothing."""
        for consumer in _consumers_of(args):
            times = self._times.setdefault(consumer, {})
            times[b"idle"] = self._unix_time()
            if not is_empty:
                times[b"inactive"] = self._unix_time()

    def aged(self, group: Sequence[bytes], reply: bytes) -> bytes:
        """The reply to XINFO CONSUMERS for a stream and a group."""

        def age(found: re.Match[bytes]) -> bytes:
            length, rest = int(found["length"]), found["rest"]
            times = self._times.get((*group, rest[:length]), {})
            return found[0][: found.start("fields") - found.start()] + _AGE.sub(
                lambda time: (
                    time[1] + b"%d" % round((self._unix_time() - times[time[2]]) * 1000)
                    if time[2] in times
                    else time[0]
                ),
                found["fields"],
            )

        return _CONSUMER.sub(age, reply)


def _consumers_of(args: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """The streams, with the group and the consumer, in whose name a command acts."""
    match [args[0].upper(), *args[1:]]:
        case [b"XREADGROUP", _, group, name, *rest]:
            words = [word.upper() for word in rest]
            streams = rest[words.index(b"STREAMS") + 1 :] if b"STREAMS" in words else []
            return [(stream, group, name) for stream in streams[: len(streams) // 2]]
        case [b"XCLAIM" | b"XAUTOCLAIM", stream, group, name, *_]:
            return [(stream, group, name)]
        case [b"XGROUP", sub, stream, group, name] if sub.upper() == b"CREATECONSUMER":
            return [(stream, group, name)]
    return []


def _reads_clock(args: Sequence[bytes]) -> bool:
    return bool(args) and (args[0].upper() == b"TIME" or (args[0].upper() == b"XADD" and _id_place(args) is not None))


def _id_place(args: Sequence[bytes]) -> int | None:
    """The position of the `*` for the entry's id in XADD; None if the id is given."""
    at = 2
    while at < len(args) and (follow := _XADD_OPTIONS.get(args[at].upper())) is not None:
        at += 1
        if follow and at < len(args) and args[at] in (b"=", b"~"):
            at += 1
        at += follow
    return at if at < len(args) and args[at] == b"*" else None
