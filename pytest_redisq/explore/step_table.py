"""An execution as a table of text: a row per step, a column per actor."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from pytest_redisq.explore.folding import LeftOut, fold
from pytest_redisq.explore.schedule import StepKind, letter
from pytest_redisq.explore.trace import ExecutedStep, WokenCommand, command_text, lanes_of, reply_text
from pytest_redisq.terminal import fit, shown_columns, width

#: What a command needs at least, in columns.
_LEAST = 16
#: Columns that pytest writes before each line of an error.
_INDENT = 8
#: Behind a reply that nothing reads.
_UNREAD = " (client gone)"
#: Readings of a clock, and ids that the server derives from it, differ each time.
_CLOCK = re.compile(rb"\d{9,}([.-]\d+)?")
#: Replies that bring nothing: nil and the empty list, of both protocols.
_NOTHING = frozenset([b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"*0\r\n", b"%0\r\n"])


class _Cell(NamedTuple):
    """A step in its column: the command and its reply, which are shortened, and what is not, such as the fault."""

    command: str = ""
    reply: str = ""
    mark: str = ""

    @property
    def width(self) -> int:
        return sum(map(width, self))

    def fitted(self, columns: int) -> str:
        """The text in at most so many columns, which must be enough for the mark and `_LEAST`."""
        room = columns - width(self.mark)
        reply = fit(self.reply, max(room // 2, room - width(self.command)))
        return fit(self.command, room - width(reply)) + reply + self.mark


def step_table(
    events: Sequence[ExecutedStep],
    *,
    names: Sequence[str] = (),
    columns: int | None = None,
    at_fault: Iterable[bytes] = (),
    times: Sequence[float] = (),
) -> str:
    """The execution as text: a row per step, a column per actor, each command with its reply.

    * `names`: the actors' names.
    * `columns`: the most that the table takes, if that is enough for what must be shown; default: as the terminal has,
      for an error that pytest shows.
    * `at_fault`: bodies of messages; rows that contain one have a point.
    * `times`: virtual time after each step, in seconds.

    Steps that only repeat the ones before them are left out, and at the end those after the last message at fault in
    which nothing comes.
    """
    bodies = tuple(at_fault)
    lanes = lanes_of(events)
    titles = [_Cell(f"{letter(at)} {names[at] if at < len(names) else ''}".rstrip()) for at in lanes]
    shown = folded(events, bodies)
    rows = {at: _row(events[at], lanes) for at in shown if isinstance(at, int)}
    numbers = {at: f"{'●' if events[at].mentions(bodies) else ''}{at + 1}" for at in rows}
    margin = max(map(len, numbers.values()), default=1)
    columns = shown_columns() - _INDENT if columns is None else columns
    widths = _widths([titles, *rows.values()], columns - margin - 3 * len(lanes))
    lines = [_line(" " * margin, titles, widths), "─" * (margin + sum(3 + lane for lane in widths))]
    for at in shown:
        if isinstance(at, int):
            lines.append(_line(numbers[at].rjust(margin), rows[at], widths))
        else:
            lines.append(f"{'⋮'.rjust(margin)} │ {at.words(seconds_of(at, times))}")
    return "\n".join(lines)


def folded(events: Sequence[ExecutedStep], at_fault: Sequence[bytes] = ()) -> list[int | LeftOut]:
    """The positions of the steps to show, and those that are left out. A message at fault is always shown."""
    mentions = [at for at, event in enumerate(events) if event.mentions(at_fault)]
    end = len(events)
    while mentions and end > mentions[-1] + 1 and _is_idle(events[end - 1]):
        end -= 1
    return fold([at if at in mentions else _key(event) for at, event in enumerate(events)], end=end)


def seconds_of(steps: LeftOut, times: Sequence[float]) -> float:
    """The virtual time that passes in steps that are left out; `times`: after each step of the execution."""
    return round(times[steps.last] - times[steps.first - 1], 3) if steps.first and times else 0.0


def _is_idle(event: ExecutedStep) -> bool:
    """Whether a step is only the passing of time, or a read that brought nothing."""
    waits = event.step.kind is StepKind.TIME or event.blocks or event.reply in _NOTHING
    return waits and event.step.kind in (StepKind.TIME, StepKind.RUN) and not event.woken


def _key(event: ExecutedStep) -> Hashable:
    args, reply = (tuple(_CLOCK.sub(b"#", text) for text in texts) for texts in (event.args, [event.reply]))
    return event.step, args, reply, event.blocks, event.unread, event.woken


def _widths(rows: Sequence[Sequence[_Cell]], room: int) -> list[int]:
    """The width of each column. If they need more than `room` together, the widest ones get less."""
    natural = [max(cell.width for cell in column) for column in zip(*rows, strict=True)]
    least = [max(_LEAST + width(cell.mark) for cell in column) for column in zip(*rows, strict=True)]
    widths = list(natural)
    limit = max(natural, default=0)
    while sum(widths) > room and limit > _LEAST:
        limit -= 1
        widths = [min(wide, max(limit, few)) for wide, few in zip(natural, least, strict=True)]
    return widths


def _line(number: str, cells: Sequence[_Cell], widths: Sequence[int]) -> str:
    texts = [cell.fitted(room) for cell, room in zip(cells, widths, strict=True)]
    padded = (text + " " * (room - width(text)) for text, room in zip(texts, widths, strict=True))
    return " │ ".join([number, *padded]).rstrip()


def _row(event: ExecutedStep, lanes: dict[int, int]) -> list[_Cell]:
    cells = [_Cell()] * len(lanes)
    cells[lanes[event.step.actor]] = _cell(event)
    for woken in event.woken:
        cells[lanes[woken.actor]] = _Cell(f"… {command_text(woken.args)}", *_outcome(woken))
    return cells


def _cell(event: ExecutedStep) -> _Cell:
    reply, mark = _outcome(event) if event.reply else ("", " …" * event.blocks)
    word = event.word
    return _Cell(command_text(event.args), reply, f"{mark}  ⚡ {word}" if word else mark)


def _outcome(command: ExecutedStep | WokenCommand) -> tuple[str, str]:
    return f" → {reply_text(command.reply)}", _UNREAD * command.unread


def describe(event: ExecutedStep, columns: int = 120) -> str:
    """A step in one line: the command, its reply, and the fault."""
    return _cell(event).fitted(columns)
