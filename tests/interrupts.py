"""Ctrl-C at a given line: a SIGINT at the very moment when the main thread comes to it for the n-th time."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple

import pytest_redisq

OURS = str(Path(pytest_redisq.__file__).parent)


class Line(NamedTuple):
    """A line of code, and the how manieth time it is come to."""

    file: str
    number: int
    time: int = 1

    def __str__(self) -> str:
        return f"{self.file.removeprefix(OURS)}:{self.number} the {self.time}th time"


def lines_of(
    act: Callable[[], object], *, within: str = OURS, times: int = 1, event: Literal["line", "return"] = "line"
) -> list[Line]:
    """The lines that the main thread comes to in `act`, or from which it returns, in their order.

    Each at most so many `times`.
    """
    seen: Counter[tuple[str, int]] = Counter()
    lines: list[Line] = []

    def note(place: tuple[str, int], _frame: FrameType) -> None:
        seen[place] += 1
        if seen[place] <= times:
            lines.append(Line(*place, seen[place]))

    _traced(act, note, within, event)
    return lines


def interrupted_at(
    line: Line, act: Callable[[], object], *, within: str = OURS, event: Literal["line", "return"] = "line"
) -> str:
    """The result of interrupting `act` at that line: "interrupted", "not reached", or the problem."""
    left = line.time
    reached = False

    def interrupt(place: tuple[str, int], _frame: FrameType) -> None:
        nonlocal left, reached
        if place == line[:2]:
            left -= 1
            if left == 0:
                reached = True
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)

    try:
        _traced(act, interrupt, within, event)
    except KeyboardInterrupt:
        return "interrupted"
    except Exception as error:
        return f"{type(error).__name__}: {error}" if reached else f"before: {error!r}"
    return "swallowed" if reached else "not reached"


def _traced(
    act: Callable[[], object], see: Callable[[tuple[str, int], FrameType], None], within: str, wanted: str
) -> None:
    process = os.getpid()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if os.getpid() != process:  # a forked child inherits the trace; Ctrl-C in it alone is another story
            return None
        if not frame.f_code.co_filename.startswith(within) or frame.f_code.co_filename == __file__:
            return None
        if event == wanted:
            see((frame.f_code.co_filename, frame.f_lineno), frame)
        return trace

    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(None)
