"""Commands by which a queue keeps a list or a sorted set within a bound."""

from __future__ import annotations

from collections.abc import Sequence

#: Commands that trim a list or a sorted set, in lower case.
TRIM_COMMANDS = ("ltrim", "zremrangebyrank")


def trims(args: Sequence[object]) -> bool:
    """Whether a command, or the script that it carries, trims a list or a sorted set.

    `args`: its words, as they are sent or as redis-py takes them. The text behind a script's hash is not known.

    >>> trims([b"LTRIM", b"jobs", b"-50", b"-1"]), trims(["RPUSH", "ltrim", "a"])
    (True, False)
    >>> trims(["EVAL", "return redis.call('LTRIM', KEYS[1], -50, -1)", 1, "jobs"])
    True
    """
    name = _lower(args[0]).split(maxsplit=1)[0]  # redis-py takes "SCRIPT LOAD" as one word
    match name:
        case "eval" | "eval_ro" if len(args) > 1:
            text = _lower(args[1])
        case "script" | "function":
            text = _lower(args[-1])
        case _:
            return name in TRIM_COMMANDS
    return any(command in text for command in TRIM_COMMANDS)


def _lower(word: object) -> str:
    return (word.decode(errors="replace") if isinstance(word, bytes) else str(word)).lower()
