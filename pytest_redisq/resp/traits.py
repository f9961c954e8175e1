"""What a verdict needs to know of a command that a worker sends."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag
from functools import reduce
from itertools import takewhile
from operator import or_

#: Commands that trim a list or a sorted set, in lower case.
TRIM_COMMANDS = ("ltrim", "zremrangebyrank")
#: In lower case: the command that trims a stream, and the options by which XADD does.
_XTRIM, _BOUNDS = "xtrim", ("maxlen", "minid")
#: Commands whose replies hand elements to a consumer, in lower case. XREADGROUP does only for `>`.
_TAKES = (
    *("lpop", "rpop", "blpop", "brpop", "lmpop", "blmpop", "lmove", "blmove", "rpoplpush", "brpoplpush"),
    *("zpopmin", "zpopmax", "bzpopmin", "bzpopmax", "zmpop", "bzmpop"),
)


#: Ids from which no entry is known to the consumer: it may only look whether there are any.
_NOWHERE = ("0", "0-0", "$")
#: Where a claim, or XPENDING, has the idle time that it asks for; and a day, in milliseconds.
_IDLE_AT, _DAY_MS = 4, 86_400_000


class Trait(IntFlag):
    """What a command does."""

    NONE = 0
    #: It trims a list or a sorted set, or carries a script that does.
    TRIMS = 1
    #: It creates a consumer group at the end of a stream, or moves one there.
    GROUP_AT_END = 2
    #: The command trims a stream, or carries a script that does.
    TRIMS_STREAM = 4
    #: The command takes elements, or a group's new entries, for its consumer. A script is assumed to do so.
    TAKES = 8
    #: The command claims only entries that have been pending for more than a day.
    CLAIMS_LATE = 16
    #: The command asks how long the consumers of a group have been idle.
    ASKS_IDLE = 32
    #: The command reads the entries of a stream after one that the consumer knows.
    READS = 64


def traits_of(args: Sequence[object]) -> Trait:
    """What a command does; of a script that is called by its hash or name, it is not known what it trims.

    `args`: its words, as they are sent or as redis-py takes them; of EXEC the commands of the transaction.

    >>> traits_of([b"LTRIM", b"jobs", b"-50", b"-1"]), traits_of(["RPUSH", "ltrim", "$"])
    (<Trait.TRIMS: 1>, <Trait.NONE: 0>)
    >>> traits_of(["EVAL", "return redis.call('LTRIM', KEYS[1], -50, -1)", 1, "jobs"])
    <Trait.TRIMS|TAKES: 9>
    >>> traits_of(["XGROUP CREATE", "orders", "billing", "$"])
    <Trait.GROUP_AT_END: 2>
    >>> traits_of(["XADD", "a", "MAXLEN", "~", 50, "*", "body", "x"]), traits_of(["XADD", "a", "*", "maxlen", 1])
    (<Trait.TRIMS_STREAM: 4>, <Trait.NONE: 0>)
    >>> traits_of(["XREADGROUP", "GROUP", "g", "c", "STREAMS", "orders", ">"]), traits_of(["BLPOP", "jobs", 1])
    (<Trait.TAKES: 8>, <Trait.TAKES: 8>)
    >>> traits_of(["XAUTOCLAIM", "a", "g", "c", 604_800_000, "0-0"]), traits_of(["XINFO CONSUMERS", "a", "g"])
    (<Trait.CLAIMS_LATE: 16>, <Trait.ASKS_IDLE: 32>)
    >>> traits_of([b"EXEC", b"RPUSH jobs a", b"LTRIM jobs -50 -1"])
    <Trait.TRIMS: 1>
    """
    name = _lower(args[0]).split(maxsplit=1)[0]  # redis-py takes "SCRIPT LOAD" as one word
    match name:
        case "eval" | "eval_ro" if len(args) > 1:
            text = _lower(args[1])
        case "script" | "function":
            text = _lower(args[-1])
        case "xgroup":
            return Trait.GROUP_AT_END if any(_lower(word) == "$" for word in args[2:]) else Trait.NONE
        case "xadd":
            # The options come before the entry's id; of its fields any may be called "maxlen".
            options = takewhile(str.isalpha, map(_lower, args[2:]))
            return Trait.TRIMS_STREAM if any(option in _BOUNDS for option in options) else Trait.NONE
        case "xclaim" | "xautoclaim" if len(args) > _IDLE_AT:
            return Trait.CLAIMS_LATE if _is_late(args[_IDLE_AT]) else Trait.NONE
        case "xpending" if len(args) > _IDLE_AT and _lower(args[3]) == "idle":
            return Trait.CLAIMS_LATE if _is_late(args[_IDLE_AT]) else Trait.NONE
        case "xinfo":
            return Trait.ASKS_IDLE if "consumers" in (_lower(args[0]).split()[-1], _lower(args[1])) else Trait.NONE
        case "xread":
            return Trait.READS if _lower(args[-1]) not in _NOWHERE else Trait.NONE
        case "xreadgroup":
            return Trait.TAKES if _lower(args[-1]) == ">" else Trait.NONE
        case "exec":
            return reduce(or_, (traits_of(_lower(queued).split(" ")) for queued in args[1:]), Trait.NONE)
        case "evalsha" | "fcall":
            return Trait.TAKES
        case _:
            return _BY_NAME.get(name, Trait.NONE)
    lists = Trait.TRIMS if any(command in text for command in TRIM_COMMANDS) else Trait.NONE
    streams = Trait.TRIMS_STREAM if any(word in text for word in (_XTRIM, *_BOUNDS)) else Trait.NONE
    return lists | streams | (Trait.TAKES if name == "eval" else Trait.NONE)


_BY_NAME = {
    _XTRIM: Trait.TRIMS_STREAM,
    **dict.fromkeys(TRIM_COMMANDS, Trait.TRIMS),
    **dict.fromkeys(_TAKES, Trait.TAKES),
}


def _is_late(idle_ms: object) -> bool:
    text = _lower(idle_ms)
    return text.isdecimal() and int(text) >= _DAY_MS


def _lower(word: object) -> str:
    return (word.decode(errors="replace") if isinstance(word, bytes) else str(word)).lower()
