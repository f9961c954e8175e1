"""What a schedule shows of messages that went wrong: the command that had each last, and what may have removed it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_redisq.explore.schedule import letter
from pytest_redisq.explore.trace import ExecutedStep, describe
from pytest_redisq.model import UNREADABLE, Message, encode_body

#: Of so many messages the commands are shown.
_SHOWN = 3
#: Commands that remove messages without naming them.
_REMOVE = frozenset(b"LTRIM XTRIM DEL UNLINK FLUSHDB FLUSHALL EXPIRE PEXPIRE RENAME SET RESTORE EVAL EVALSHA".split())


def last_commands(
    events: Sequence[ExecutedStep], names: Sequence[str], messages: Iterable[Message], run: str
) -> Iterator[str]:
    """The lines of an explanation that say which command had each message last.

    * `events`: the steps of the schedule.
    * `names`: of the actors.
    * `messages`: those that went wrong.
    * `run`: the run id in their bodies.
    """
    shown = [message for message in dict.fromkeys(messages) if message != UNREADABLE][:_SHOWN]
    lines = [line for message in shown for line in _of_message(events, names, message, run)]
    if lines:
        yield from ("", "What the schedule shows:", *lines)


def _of_message(events: Sequence[ExecutedStep], names: Sequence[str], message: Message, run: str) -> Iterator[str]:
    body = encode_body(run, message)
    mentions = [number for number, event in enumerate(events) if event.mentions([body])]
    if not mentions:
        return
    last = mentions[-1]
    yield f"  - message {message} was last in step {last + 1}, {_step(events[last], names, [body])}"
    for number, event in enumerate(events[last + 1 :], last + 2):
        if event.args and event.args[0].upper() in _REMOVE:
            yield f"    after that, step {number}, {_step(event, names, [])}"
            return


def _step(event: ExecutedStep, names: Sequence[str], bodies: Sequence[bytes]) -> str:
    """The step in one line, or the command that it woke, if that is what has the body."""
    actor, text = event.step.actor, describe(event)
    for woken in event.woken:
        if bodies and woken.mentions(bodies) and not any(bodies[0] in part for part in (*event.args, event.reply)):
            actor = woken.actor
            text = describe(ExecutedStep(step=event.step, args=woken.args, reply=woken.reply))
    return f"{letter(actor)} {names[actor]}: {text}"
