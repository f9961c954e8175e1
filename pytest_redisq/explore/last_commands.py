"""What a schedule shows of messages that went wrong: the command that had each last, and what may have removed it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from pytest_redisq.explore.schedule import letter
from pytest_redisq.explore.step_table import describe
from pytest_redisq.explore.trace import ExecutedStep
from pytest_redisq.model import UNREADABLE, Message, encode_body
from pytest_redisq.resp import decode_reply

#: Of so many messages the commands are shown.
_SHOWN = 3
#: Commands that remove messages without naming them.
_REMOVE = frozenset(b"LTRIM XTRIM DEL UNLINK FLUSHDB FLUSHALL EXPIRE PEXPIRE RENAME SET RESTORE EVAL EVALSHA".split())

#: Commands that read elements of a list and leave them there, and that remove elements at an end of it.
_READ, _REMOVE_ENDS = frozenset(b"LINDEX LRANGE".split()), frozenset(b"LPOP RPOP LTRIM".split())


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
    races = [line for message in shown for line in _read_by_two(events, names, encode_body(run, message))]
    lines += dict.fromkeys(races)
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


def _read_by_two(events: Sequence[ExecutedStep], names: Sequence[str], body: bytes) -> Iterator[str]:
    """Two actors that read the same element of the list where `body` was, before each of them removed some there.

    The body was gone after these commands: one of them returned it, or they name no element.
    """
    keys = {event.args[1] for event in events if any(body in arg for arg in event.args[2:])}
    last = max((number for number, event in enumerate(events) if event.mentions([body])), default=-1)
    reads = [number for number, event in enumerate(events) if _is(event, _READ, keys)]
    removals = [number for number, event in enumerate(events) if _is(event, _REMOVE_ENDS, keys)]
    for one, two in combinations(reads, 2):
        pair = (events[one], events[two])
        if pair[0].step.actor == pair[1].step.actor or not _elements(pair[0]) & _elements(pair[1]):
            continue
        ends = [
            next((number for number in removals if number > two and events[number].step.actor == each.step.actor), None)
            for each in pair
        ]
        if None in ends or not (last in ends or all(events[end or 0].args[0].upper() == b"LTRIM" for end in ends)):
            continue
        actors = " and ".join(f"{letter(each.step.actor)} {names[each.step.actor]}" for each in pair)
        steps = " and ".join(str((end or 0) + 1) for end in ends)
        yield (
            f"  - {actors} read the same element in steps {one + 1} and {two + 1}, and then each removed elements, in "
            f"steps {steps}: read and remove in one command (LPOP, LMOVE) or script"
        )
        return


def _is(event: ExecutedStep, commands: frozenset[bytes], keys: set[bytes]) -> bool:
    return len(event.args) > 1 and event.args[0].upper() in commands and event.args[1] in keys


def _elements(event: ExecutedStep) -> set[bytes]:
    """What a read of a list returned."""
    reply = decode_reply(event.reply) if event.reply else None
    found = reply if isinstance(reply, list) else [reply]
    return {element for element in found if isinstance(element, bytes)}


def _step(event: ExecutedStep, names: Sequence[str], bodies: Sequence[bytes]) -> str:
    """The step in one line, or the command that it woke, if that is what has the body."""
    actor, text = event.step.actor, describe(event)
    for woken in event.woken:
        if bodies and woken.mentions(bodies) and not any(bodies[0] in part for part in (*event.args, event.reply)):
            actor = woken.actor
            text = describe(ExecutedStep(step=event.step, args=woken.args, reply=woken.reply))
    return f"{letter(actor)} {names[actor]}: {text}"
