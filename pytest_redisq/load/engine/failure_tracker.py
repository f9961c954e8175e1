"""Follows whether all operations of one process of a load run fail, and in which way."""

from __future__ import annotations

import time

from pytest_redisq.endpoint.shared_failure import FailureStreak, failure_way

#: The streak of a process of which an operation has not failed.
_WELL = FailureStreak(0, 0, "")


class FailureTracker:
    """The failures since an operation of any worker succeeded last. A consumer that waits has neither failed nor not.

    Only failures are counted one by one, since they are rare; the engine says of each `COLLECT_SECONDS` whether any
    operation succeeded.
    """

    def __init__(self) -> None:
        self._streak = _WELL
        self._producers: set[object] = set()  # those that have failed
        #: When an operation succeeded last, in nanoseconds of the wall clock; 0: never.
        self.succeeded_ns: int = 0

    def fail(self, worker: object, error: str, *, producing: bool, kind: str = "") -> None:
        """An operation of `worker` failed. `kind`: what errors of one way share; default: the text `error`."""
        way = failure_way(kind or error)
        if way != self._streak.way or not self._streak.since_ns:
            self._producers.clear()
            self._streak = FailureStreak(time.time_ns(), way, error)
        if producing:
            self._producers.add(worker)

    def succeed(self) -> None:
        """Some operations succeeded since the last call."""
        self.succeeded_ns = time.time_ns()
        self._streak = _WELL
        self._producers.clear()

    def end(self, worker: object) -> None:
        """`worker` has ended."""
        self._producers.discard(worker)

    def streak(self, producers: int) -> FailureStreak | None:
        """The failures of all `producers` that have not ended, and of the consumers that do not only wait.

        Returns None if there are no producers and no failures, so that this process proves nothing.
        """
        if len(self._producers) < producers:
            return _WELL
        return self._streak if self._streak.since_ns else None
