"""The steps of one execution, as JSON, the texts of commands and replies, and comparing two replays. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_redisq.check import ErrorCount
from pytest_redisq.explore.schedule import Step, StepKind, letter
from pytest_redisq.resp import ReplyError, Value, decode_reply
from pytest_redisq.terminal import escaped

#: The text for each kind of step.
WORDS: dict[StepKind, str] = {
    StepKind.RUN: "",
    StepKind.TIME: "time passes",
    StepKind.NOTICE: "server notices that the client is gone",
    StepKind.LOSE_REQUEST: "request lost",
    StepKind.LOSE_REPLY: "reply lost",
    StepKind.CUT_REPLY: "reply cut off",
    StepKind.KILL_BEFORE: "killed before",
    StepKind.KILL_AFTER: "killed after",
    StepKind.TERM: "asked to end",
    StepKind.CANCEL: "cancelled",
    StepKind.GRACE: "killed, for it has not ended",
    StepKind.FLUSH_SCRIPTS: "scripts flushed before",
    StepKind.DISCONNECT: "connections killed",
    StepKind.PAUSE: "paused",
    StepKind.DELAY: "delayed",
    StepKind.OOM: "refused: out of memory",
    StepKind.READONLY: "refused: read only",
    StepKind.LOADING: "refused: loading",
    StepKind.NOSCRIPT: "refused: no script",
    StepKind.MOVED: "refused: moved",
    StepKind.EVICT: "key evicted before",
    StepKind.GROUP_GONE: "group destroyed before",
    StepKind.RESTART: "server restarted",
    StepKind.RESTART_EMPTY: "server restarted, empty",
    StepKind.FAILOVER: "failover, last write lost",
}
#: The text for a step whose fault found nothing to take away.
MISSED_WORDS: dict[StepKind, str] = {StepKind.EVICT: "no key to evict", StepKind.GROUP_GONE: "no group to destroy"}

#: How an error begins as a reply: a simple one, and a bulk one of RESP3.
_ERROR_SIGNS = (b"-", b"!")


@dataclass(frozen=True, slots=True, kw_only=True)
class WokenCommand:
    """A blocked command that a step ended, with its reply."""

    actor: int
    args: tuple[bytes, ...]
    reply: bytes
    #: Whether its client has gone, so that nothing reads the reply.
    unread: bool = False

    def mentions(self, bodies: Iterable[bytes]) -> bool:
        """Whether the command or its reply contains one of `bodies`."""
        return _mentions((*self.args, self.reply), bodies)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedStep:
    """A step as it happened. `reply` is empty if there was none: the request was lost, or the command blocks."""

    step: Step
    args: tuple[bytes, ...]
    reply: bytes = b""
    blocks: bool = False
    #: Whether its client has gone, so that nothing reads the reply.
    unread: bool = False
    woken: tuple[WokenCommand, ...] = ()
    #: Whether a fault was to strike the command, but found nothing to take away.
    missed: bool = False

    @property
    def word(self) -> str:
        """What the step is, besides a command that is executed: "reply lost", "time passes". Usually empty."""
        return MISSED_WORDS[self.step.kind] if self.missed else WORDS[self.step.kind]

    def mentions(self, bodies: Iterable[bytes]) -> bool:
        """Whether the step, or a command that it ended, contains one of `bodies`."""
        known = tuple(bodies)
        return _mentions((*self.args, self.reply), known) or any(woken.mentions(known) for woken in self.woken)

    def record(self) -> dict[str, Any]:
        """The step as a JSON object, with readable commands and replies."""
        woken = [
            {"actor": letter(each.actor), "command": command_text(each.args), "reply": reply_text(each.reply)}
            for each in self.woken
        ]
        return {
            "step": str(self.step),
            "actor": letter(self.step.actor),
            "command": command_text(self.args),
            "reply": reply_text(self.reply) if self.reply else None,
            "what": self.word or ("blocks" if self.blocks else ""),
            "woken": woken,
        }

    @property
    def shape(self) -> tuple[Step, bytes]:
        """What must be the same in every replay: the step, and the command's name.

        Arguments and replies may contain ids that the server derives from its clock.
        """
        return self.step, self.args[0].upper() if self.args else b""


def _mentions(texts: Iterable[bytes], bodies: Iterable[bytes]) -> bool:
    return any(body in text for body in bodies for text in texts)


def lanes_of(events: Sequence[ExecutedStep]) -> dict[int, int]:
    """Each actor that appears in an execution, and its column."""
    actors = {event.step.actor for event in events} | {woken.actor for event in events for woken in event.woken}
    return {actor: at for at, actor in enumerate(sorted(actors))}


def first_difference(one: Sequence[ExecutedStep], two: Sequence[ExecutedStep]) -> int | None:
    """The position of the first step in which two executions of a schedule differ; None if they do not."""
    for at, (left, right) in enumerate(zip(one, two, strict=False)):
        if left.shape != right.shape:
            return at
    return min(len(one), len(two)) if len(one) != len(two) else None


def error_replies(events: Iterable[ExecutedStep]) -> list[ErrorCount]:
    """The errors with which the server answered commands, by command and text, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for event in events:
        for args, reply in ((event.args, event.reply), *((woken.args, woken.reply) for woken in event.woken)):
            if args and reply[:1] in _ERROR_SIGNS:
                counts[command_text(args[:1]).upper(), reply_text(reply).removeprefix("error: ")] += 1
    return [ErrorCount(*key, times) for key, times in counts.most_common()]


def command_text(args: Sequence[bytes]) -> str:
    """A command as text, binary arguments escaped."""
    return " ".join(_text(arg) for arg in args)


def reply_text(raw: bytes) -> str:
    """A reply as text."""
    try:
        return escaped(_value_text(decode_reply(raw)))
    except (ValueError, IndexError):
        return repr(raw)[2:-1]


def _value_text(value: Value) -> str:
    match value:
        case None:
            return "nil"
        case ReplyError():
            return f"error: {value}"
        case bytes():
            return _text(value)
        case list():
            return "[" + " ".join(map(_value_text, value)) + "]"
        case dict():
            pairs = (
                f"{_text(key) if isinstance(key, bytes) else key}={_value_text(item)}" for key, item in value.items()
            )
            return "{" + " ".join(pairs) + "}"
        case _:
            return str(value)


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return repr(data)[2:-1]
    if not text or " " in text or not text.isprintable():
        return repr(text).replace("'", '"') if "'" not in text else repr(text)
    return text
