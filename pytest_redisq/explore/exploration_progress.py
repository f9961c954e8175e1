"""Shows the progress of an exploration in one line, which is rewritten a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_redisq.explore.exploration import Exploration

#: Seconds between two lines.
EVERY_SECONDS = 0.1


@contextmanager
def progress_line(show: Callable[[str], None] | None) -> Iterator[Callable[[Exploration], None] | None]:
    """The callback to pass as `progress`; `show` shows a line. At the end the line is cleared."""
    if show is None:
        yield None
        return
    due = time.monotonic() + EVERY_SECONDS

    def progress(so_far: Exploration) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + EVERY_SECONDS
            show(f"redisq: {_so_far(so_far)}")

    try:
        yield progress
    finally:
        show("")


def _so_far(result: Exploration) -> str:
    if failure := result.failure:
        tried = f"{failure.tried} smaller schedules tried"
        return f"schedule {result.schedules} fails; {tried}, the shortest that fails has {len(failure.schedule)} steps"
    return f"{result.schedules} schedules, {len(result.orders)} orders of conflicting commands seen"
