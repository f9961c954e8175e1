"""The reports of actors' threads to the thread that runs the schedule, and the mailbox for them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class ActorEnded:
    """The actor's code has ended."""

    actor: int


@dataclass(frozen=True, slots=True)
class ActorSleeps:
    """The actor's thread sleeps for `seconds`, or waits for `event` for so long (None: without limit)."""

    actor: int
    seconds: float | None
    event: threading.Event | None = None


@dataclass(frozen=True, slots=True)
class ActorIdle:
    """The actor's event loop has nothing to do, or its thread waits on sockets, for `seconds` (None: until input
    comes). It has seen all up to `generation`.
    """

    actor: int
    generation: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class EventSet:
    """A thread has set an event."""

    event: threading.Event


ActorReport: TypeAlias = ActorEnded | ActorSleeps | ActorIdle | EventSet


class Mailbox:
    """Collects the reports of actors' threads for the thread that runs the schedule."""

    def __init__(self) -> None:
        self.reader: int
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._reports: deque[ActorReport] = deque()
        #: Held while an actor is given something and its `generation` counts it.
        self.lock: threading.Lock = threading.Lock()
        self.now: float = 0.0  # seconds since the run began
        self._open = True
        self._closing = threading.RLock()  # a destructor may set an event at any moment

    def report(self, report: ActorReport) -> None:
        """Leave a report. Any thread may call it, also a thread of an earlier execution, whose report is dropped."""
        with self._closing:
            if self._open:
                self._reports.append(report)
                os.write(self._writer, b".")

    def event_set(self, event: threading.Event) -> None:
        """Report that an event was set. Any thread may call it."""
        self.report(EventSet(event))

    def drain(self) -> list[ActorReport]:
        """The reports since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 4096)
        reports: list[ActorReport] = []
        while self._reports:
            reports.append(self._reports.popleft())
        return reports

    def close(self) -> None:
        """Close the pipe."""
        with self._closing:
            self._open = False
            os.close(self.reader)
            os.close(self._writer)
