"""What a verdict needs to know of a command that a worker sends."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag

#: Commands that trim a list or a sorted set, in lower case.
TRIM_COMMANDS = ("ltrim", "zremrangebyrank")


class Trait(IntFlag):
    """What a command does."""

    NONE = 0
    #: It trims a list or a sorted set, or carries a script that does.
    TRIMS = 1
    #: It creates a consumer group at the end of a stream, or moves one there.
    GROUP_AT_END = 2


def traits_of(args: Sequence[object]) -> Trait:
    """What a command does; of a script that is called by its hash or name, nothing is known.

    `args`: its words, as they are sent or as redis-py takes them.

    >>> traits_of([b"LTRIM", b"jobs", b"-50", b"-1"]), traits_of(["RPUSH", "ltrim", "$"])
    (<Trait.TRIMS: 1>, <Trait.NONE: 0>)
    >>> traits_of(["EVAL", "return redis.call('LTRIM', KEYS[1], -50, -1)", 1, "jobs"])
    <Trait.TRIMS: 1>
    >>> traits_of(["XGROUP CREATE", "orders", "billing", "$"])
    <Trait.GROUP_AT_END: 2>
    """
    name = _lower(args[0]).split(maxsplit=1)[0]  # redis-py takes "SCRIPT LOAD" as one word
    match name:
        case "eval" | "eval_ro" if len(args) > 1:
            text = _lower(args[1])
        case "script" | "function":
            text = _lower(args[-1])
        case "xgroup":
            return Trait.GROUP_AT_END if any(_lower(word) == "$" for word in args[2:]) else Trait.NONE
        case _:
            return Trait.TRIMS if name in TRIM_COMMANDS else Trait.NONE
    return Trait.TRIMS if any(command in text for command in TRIM_COMMANDS) else Trait.NONE


def _lower(word: object) -> str:
    return (word.decode(errors="replace") if isinstance(word, bytes) else str(word)).lower()
