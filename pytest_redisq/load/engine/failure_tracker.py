"""Follows whether all operations of one process of a load run fail, or all of its consumers', and in which way."""

from __future__ import annotations

import time

from pytest_redisq.endpoint.shared_failure import HOPELESS_SECONDS, FailureStreak, failure_way

#: The streak of a process of which an operation has not failed.
_WELL = FailureStreak(0, 0, "")
#: A consumer that has not failed again for so long waits for messages.
_QUIET_NS = 3_000_000_000


class _Failing:
    """A consumer that has failed: since when, when last, in which way, and with which error."""

    __slots__ = ("error", "last_ns", "since_ns", "way")

    def __init__(self, way: int, error: str, now_ns: int) -> None:
        self.way, self.error = way, error
        self.since_ns = self.last_ns = now_ns

    @property
    def persists(self) -> bool:
        return self.last_ns - self.since_ns >= HOPELESS_SECONDS * 1e9


class FailureTracker:
    """The failures since an operation of any worker succeeded last. A consumer that waits has neither failed nor not.

    Only failures are counted one by one, since they are rare; the engine says of each `COLLECT_SECONDS` whether any
    operation succeeded.
    """

    def __init__(self) -> None:
        self._streak = _WELL
        self._producers: set[object] = set()  # those that have failed
        self._consumers: dict[object, _Failing] = {}
        #: When an operation succeeded last, in nanoseconds of the wall clock; 0: never.
        self.succeeded_ns: int = 0
        #: The same for the consumers alone, one that waited in vain among them.
        self.received_ns: int = 0

    def fail(self, worker: object, error: str, *, producing: bool, kind: str = "") -> None:
        """An operation of `worker` failed. `kind`: what errors of one way share; default: the text `error`."""
        way = failure_way(kind or error)
        if way != self._streak.way or not self._streak.since_ns:
            self._producers.clear()
            self._streak = FailureStreak(time.time_ns(), way, error)
        if producing:
            self._producers.add(worker)
            return
        now_ns, failing = time.time_ns(), self._consumers.get(worker)
        if failing is None or failing.way != way:
            self._consumers[worker] = _Failing(way, error, now_ns)
        else:
            failing.last_ns = now_ns

    def succeed(self, *, consumers: bool) -> None:
        """Some operations succeeded since the last call. `consumers`: some of them were operations of consumers."""
        self.succeeded_ns = time.time_ns()
        self._streak = _WELL
        self._producers.clear()
        if consumers:
            self.received_ns = self.succeeded_ns
            self._consumers.clear()

    def idle(self, worker: object) -> None:
        """A consumer was answered that there is no message."""
        if self._consumers.pop(worker, None) is not None:
            self.received_ns = time.time_ns()

    def end(self, worker: object) -> None:
        """`worker` has ended."""
        self._producers.discard(worker)
        self._consumers.pop(worker, None)

    def streak(self, producers: int) -> FailureStreak | None:
        """The failures of all `producers` that have not ended, and of the consumers that do not only wait.

        Returns None if there are no producers and no failures, so that this process proves nothing.
        """
        if len(self._producers) < producers:
            return _WELL
        return self._streak if self._streak.since_ns else None

    def consumer_streak(self, consumers: int) -> FailureStreak | None:
        """The failures of all `consumers` that have not ended, whatever producers do; None if there are none.

        A consumer fails only if it has failed again and again: after a short outage it may wait for messages.
        """
        if not consumers:
            return None
        quiet_ns = time.time_ns() - _QUIET_NS
        failing = [each for each in self._consumers.values() if each.last_ns > quiet_ns and each.persists]
        if len(failing) < consumers or len({each.way for each in failing}) != 1:
            return _WELL
        latest = max(failing, key=lambda each: each.since_ns)
        return FailureStreak(latest.since_ns, latest.way, latest.error)
