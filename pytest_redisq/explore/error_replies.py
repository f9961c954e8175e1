"""Faults that answer a command with an error reply in the server's stead: which commands can get it, and its text.

Law: the command has no effect, and the reply is the one that a server in such a state gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redis.crc import key_slot

from pytest_redisq.explore.connection_state import HeldCommand
from pytest_redisq.explore.schedule import StepKind
from pytest_redisq.explore.script_cache import NOSCRIPT

#: Commands whose effect only the server knows.
_SCRIPTS = frozenset([b"EVAL", b"EVALSHA", b"FCALL"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _ErrorReply:
    """`text`: the reply without its end. `answers`: whether a server gives it to a command."""

    text: bytes
    answers: Callable[[HeldCommand], bool]


def _may_write(held: HeldCommand, flag: bytes) -> bool:
    return flag in held.flags or _name(held) in _SCRIPTS


def _name(held: HeldCommand) -> bytes:
    return held.args[0].upper()


_REPLIES: dict[StepKind, _ErrorReply] = {
    StepKind.OOM: _ErrorReply(
        text=b"-OOM command not allowed when used memory > 'maxmemory'.",
        answers=lambda held: _may_write(held, b"denyoom"),
    ),
    StepKind.READONLY: _ErrorReply(
        text=b"-READONLY You can't write against a read only replica.",
        answers=lambda held: _may_write(held, b"write"),
    ),
    StepKind.LOADING: _ErrorReply(
        text=b"-LOADING Redis is loading the dataset in memory", answers=lambda held: b"loading" not in held.flags
    ),
    StepKind.NOSCRIPT: _ErrorReply(
        text=NOSCRIPT.removesuffix(b"\r\n"), answers=lambda held: _name(held) in (b"EVALSHA", b"EVALSHA_RO")
    ),
    StepKind.MOVED: _ErrorReply(
        text=b"-MOVED", answers=lambda held: bool(held.footprint.keys) and _name(held) != b"EXEC"
    ),
}

#: The kinds of steps that are such faults.
ERROR_REPLIES = frozenset(_REPLIES)


def can_get(kind: StepKind, held: HeldCommand) -> bool:
    """Whether a server can give a command this error reply; true for a fault of another kind."""
    return kind not in _REPLIES or _REPLIES[kind].answers(held)


def error_reply(kind: StepKind, held: HeldCommand, *, address: str) -> bytes:
    """The reply to a command. `address`: the host and port to which `MOVED` refers."""
    text = _REPLIES[kind].text
    if kind is StepKind.MOVED:
        text += b" %d %s" % (key_slot(min(held.footprint.keys)), address.encode())
    if _name(held) == b"EXEC":
        text = b"-EXECABORT Transaction discarded because of: " + text.removeprefix(b"-")
    return text + b"\r\n"
