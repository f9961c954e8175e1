"""Virtual time for the threads of actors: a sleep takes no real time, and ends when the schedule says so.

It concerns only the actors' threads, and only while `virtual_time` is active. All other threads have the real clock.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol

from pytest_redisq.explore.virtual_socket_waits import InputClock, Poller, virtual_socket_waits


class ThreadClock(InputClock, Protocol):
    """The clock of one thread."""

    def now(self) -> float:
        """Seconds since the run began."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return when the schedule has let so much time pass."""
        ...

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Return when the event is set (True), or the time has passed."""
        ...


class EventListener(Protocol):
    """Is called when an event is set."""

    def event_set(self, event: threading.Event) -> None:
        """Called after the event was set, in the thread that set it."""
        ...


class RecordClock(threading.local):
    """Readings for a run's record, in nanoseconds: each is later than all before it on the same thread.

    `base_ns` is the time of the step that the schedule took last. Readings after the same step are some nanoseconds
    apart, and those of an actor with a lower `place` come first; a thread without a place is read after all actors.

    Law: an op that ended before another began has the earlier stamps, unless they are ops of different actors after
    the same step, which run at the same time, so that either order is a true one. It is the same order in each replay,
    which the order of the threads would not be.
    """

    #: The number of the thread's actor; set in each actor's thread.
    place: int = 0
    _last = -1

    def __init__(self, base_ns: Callable[[], int], places: int, step_ns: int) -> None:
        self._base_ns = base_ns
        self._width_ns = step_ns // (places + 1)
        self.place = places

    def __call__(self) -> int:
        """The next reading of this thread."""
        self._last = max(self._last + 1, self._base_ns() + self.place * self._width_ns)
        return self._last


_real_sleep = time.sleep
_real_time = time.time
_real_monotonic = time.monotonic
_real_wait = threading.Event.wait
_real_set = threading.Event.set

_sleepers: dict[int, ThreadClock] = {}
_signals: list[EventListener] = []
_epochs: list[tuple[float, float]] = []


@contextlib.contextmanager
def use_clock(sleeper: ThreadClock) -> Iterator[None]:
    """Give the current thread this clock."""
    ident = threading.get_ident()
    _sleepers[ident] = sleeper
    try:
        yield
    finally:
        del _sleepers[ident]


def has_clock() -> bool:
    """Whether the current thread is an actor's."""
    return threading.get_ident() in _sleepers


class VirtualDateClock:
    """Virtual dates, with real sleeps and waits, which a coroutine should not call anyway."""

    #: A killed actor can be interrupted between two parts of a sleep, which are this long, in seconds.
    _PART_SECONDS = 0.1

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now

    def sleep(self, seconds: float) -> None:
        """The real `time.sleep`, in parts."""
        end = _real_monotonic() + seconds
        while seconds > self._PART_SECONDS:
            _real_sleep(self._PART_SECONDS)
            seconds = max(0.0, end - _real_monotonic())
        _real_sleep(seconds)

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """The real `threading.Event.wait`."""
        return _real_wait(event, seconds)

    def poll(self, poller: Poller, seconds: float | None) -> list[tuple[int, int]]:
        """The real `select.poll`."""
        return poller.poll(None if seconds is None else seconds * 1000)

    @property
    def reports_waits(self) -> bool:
        """No wait is reported."""
        return False

    def controls(self, peer: object) -> bool:  # noqa: ARG002
        """No wait for a socket."""
        return False

    def expect_limits(self) -> None:
        """Do nothing."""


def is_sleep(frame: FrameType) -> bool:
    """Whether a coroutine's thread is in `time.sleep`; `frame`: its innermost frame."""
    return frame.f_code is VirtualDateClock.sleep.__code__


def _sleep(seconds: float) -> None:
    sleeper = _sleepers.get(threading.get_ident())
    if sleeper is None:
        _real_sleep(seconds)
    else:
        sleeper.sleep(seconds)


def time_of_day(now: float) -> float:
    """The time of day of actors, `now` seconds after their execution began, as `time.time` returns it."""
    return _epochs[-1][0] + now


def _time() -> float:
    sleeper = _sleepers.get(threading.get_ident())
    return _real_time() if sleeper is None else time_of_day(sleeper.now())


def _monotonic() -> float:
    sleeper = _sleepers.get(threading.get_ident())
    return _real_monotonic() if sleeper is None else _epochs[-1][1] + sleeper.now()


def _wait(self: threading.Event, timeout: float | None = None) -> bool:
    sleeper = _sleepers.get(threading.get_ident())
    # `Thread.start` waits for the new thread, which is no actor, to set an event: that takes no time of the schedule's.
    if sleeper is None or sys._getframe(1).f_globals is vars(threading):
        return _real_wait(self, timeout)
    return sleeper.wait(self, timeout)


def _set(self: threading.Event) -> None:
    _real_set(self)
    for signals in _signals:
        signals.event_set(self)


@contextlib.contextmanager
def virtual_time(signals: EventListener) -> Iterator[None]:
    """Replace `time.sleep`, `time.time`, `time.monotonic`, the wait of `threading.Event`, and waits on sockets by
    virtual ones.

    Also in modules that have imported `sleep`, `time` or `monotonic` by name.
    """
    _signals.append(signals)
    _epochs.append((_real_time(), _real_monotonic()))
    outermost = len(_signals) == 1
    borrowed = _replace_borrowed() if outermost else []
    if outermost:
        threading.Event.wait, threading.Event.set = _wait, _set  # type: ignore[method-assign]
    waits = virtual_socket_waits(lambda: _sleepers.get(threading.get_ident()))
    try:
        with waits if outermost else contextlib.nullcontext():
            yield
    finally:
        _signals.remove(signals)
        _epochs.pop()
        if outermost:
            threading.Event.wait, threading.Event.set = _real_wait, _real_set  # type: ignore[method-assign]
            for namespace, name in borrowed:
                namespace[name] = _CLOCK[name][0]


#: The replacements, by their names in the module `time`. Imports under other names are not replaced: the standard
#: library has such imports in code that waits on locks by the real clock.
_CLOCK: dict[str, tuple[object, object]] = {
    "sleep": (_real_sleep, _sleep),
    "time": (_real_time, _time),
    "monotonic": (_real_monotonic, _monotonic),
}


def _replace_borrowed() -> list[tuple[dict[str, object], str]]:
    """Replace the clock in every module that has it, `time` included. Returns where it was."""
    namespaces: list[dict[str, object]] = [
        vars(module) for module in list(sys.modules.values()) if hasattr(module, "__dict__")
    ]
    found = [(at, name) for at in namespaces for name, (real, _) in _CLOCK.items() if at.get(name) is real]
    for namespace, name in found:
        namespace[name] = _CLOCK[name][1]
    return found
