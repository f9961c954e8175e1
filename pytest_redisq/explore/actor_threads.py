"""What runs an actor's code: a thread, or a thread with an event loop. Both tell the rim what they are about to do."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import queue
import selectors
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from pytest_redisq.explore.virtual_time import VirtualDateClock, use_clock

#: How long a killed actor's event loop looks for what may come yet, in seconds.
_HURRY_SECONDS = 0.002


class ActorKilled(BaseException):
    """Raised inside an actor that the schedule has killed, so that its thread ends. Not for catching."""


@contextlib.contextmanager
def silent_kills() -> Iterator[None]:
    """Where the interpreter swallows an `ActorKilled`, as in a destructor or a weak reference's callback, which no
    interruption can avoid for certain, it does not complain: the thread is interrupted once more."""
    complain = sys.unraisablehook

    def unless_killed(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is not ActorKilled:
            complain(unraisable)

    sys.unraisablehook = unless_killed
    try:
        yield
    finally:
        sys.unraisablehook = complain


@dataclass(frozen=True, slots=True)
class ActorEnded:
    """The actor's code is through."""

    actor: int


@dataclass(frozen=True, slots=True)
class ActorSleeps:
    """The actor's thread sleeps for so many seconds, or (`event`) waits that long or (None) for ever."""

    actor: int
    seconds: float | None
    event: threading.Event | None = None


@dataclass(frozen=True, slots=True)
class EventLoopIdle:
    """The actor's event loop has nothing to do until something comes, or for so many seconds.

    It had seen everything up to `generation`.
    """

    actor: int
    generation: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class EventSet:
    """Some thread has set an event."""

    event: threading.Event


ActorReport: TypeAlias = ActorEnded | ActorSleeps | EventLoopIdle | EventSet


class Mailbox:
    """Where actors' threads leave their reports for the thread that runs the schedule."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._reports: deque[ActorReport] = deque()
        #: Held while an actor is given something and its `generation` counts it.
        self.lock = threading.Lock()
        self.now = 0.0  # seconds since the run began
        self._open = True
        self._closing = threading.RLock()  # a destructor may set an event, whatever it interrupts

    def report(self, report: ActorReport) -> None:
        """Leave a report; from any thread, also from one that was given up and comes too late."""
        with self._closing:
            if self._open:
                self._reports.append(report)
                os.write(self._writer, b".")

    def event_set(self, event: threading.Event) -> None:
        """An event was set; from any thread."""
        self.report(EventSet(event))

    def drain(self) -> list[ActorReport]:
        """The reports left since the last time."""
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


class ActorThread:
    """A thread that runs one function after the other: cheaper than a new thread for each."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="redisq-actor", daemon=True)
        self.thread.start()

    def run(self, job: Callable[[], None]) -> None:
        """Run `job` after those before it."""
        self._jobs.put(job)

    def stop(self) -> None:
        """End the thread after the jobs it has."""
        self._jobs.put(None)

    def interrupt(self) -> None:
        """Raise `ActorKilled` in the thread, as soon as it executes Python code again; it then ends for good.

        Not while it clears up on the interpreter's behalf, which would swallow that.
        """
        ident = self.thread.ident or 0
        if not _clears_up(sys._current_frames().get(ident)):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(ActorKilled))

    def _work(self) -> None:
        with contextlib.suppress(ActorKilled):
            while (job := self._jobs.get()) is not None:
                job()

    def where(self) -> str:
        """Where in the code the thread is."""
        frame = sys._current_frames().get(self.thread.ident or 0)
        return "".join(traceback.format_stack(frame)[-4:]) if frame else "(its thread has ended)\n"


def _clears_up(frame: FrameType | None) -> bool:
    """Whether this is within a destructor, or in what is called before and after a garbage collection."""
    callbacks = [getattr(callback, "__code__", None) for callback in gc.callbacks]
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code in callbacks:
            return True
        frame = frame.f_back
    return False


class ActorRunner(ABC):
    """An actor's code while it runs. `generation` counts what has been delivered to it."""

    #: How long it may take to notice that it was killed, before its thread is interrupted, in seconds.
    exit_seconds: float

    def __init__(self, mailbox: Mailbox, actor: int, worker: ActorThread) -> None:
        self.mailbox = mailbox
        self.actor = actor
        self.worker = worker
        self.generation = 0
        #: How long it has been paused, in seconds of the schedule.
        self.paused_seconds = 0.0
        self.killed = False
        self.result: Any = None
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin."""
        self.worker.run(self._main)

    def _main(self) -> None:
        __tracebackhide__ = True
        try:
            self.result = self.call()
        except ActorKilled as killed:
            self.error = None if self.killed else killed
        except BaseException as error:
            self.error = error
        finally:
            self.mailbox.report(ActorEnded(self.actor))

    @abstractmethod
    def call(self) -> Any:
        """The actor's code."""

    def cpu_seconds(self) -> float:
        """How much of a processor's time it has had so far; nothing where the operating system does not tell."""
        if not hasattr(time, "pthread_getcpuclockid") or not self.worker.thread.is_alive():
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self.worker.thread.ident or 0))

    def busy(self) -> bool:
        """Whether the operating system (Linux) says that it is running, or would if there were a processor free."""
        return runnable(Path(f"/proc/self/task/{self.worker.thread.native_id}"))

    @abstractmethod
    def wake(self) -> None:
        """Let a sleep or a wait end."""

    def kill(self) -> None:
        """See to it that the code ends soon; it can do nothing to the server any more."""
        self.killed = True
        self.wake()

    def should_interrupt(self, seconds: float, cpu_seconds: float) -> bool:  # noqa: ARG002
        """Whether to interrupt the thread, so many `seconds`, and so many of CPU time, after the kill."""
        return seconds > self.exit_seconds


def runnable(task: Path) -> bool:
    """Whether a task of /proc runs, or waits only for a processor or a disk."""
    try:
        state = (task / "stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:  # it has ended, or this is no Linux
        return False
    return state in (b"R", b"D")


class ThreadRunner(ActorRunner):
    """A function in a thread of its own, with virtual time."""

    #: Of a processor's time, which a busy machine may give it late.
    exit_seconds = 0.02

    def __init__(self, mailbox: Mailbox, actor: int, worker: ActorThread, function: Callable[[], Any]) -> None:
        super().__init__(mailbox, actor, worker)
        self._function = function
        self._gate = threading.Semaphore(0)

    def call(self) -> Any:
        """Run the function."""
        __tracebackhide__ = True
        with use_clock(self):
            return self._function()

    def wake(self) -> None:
        """Let the sleep end."""
        self._gate.release()

    def should_interrupt(self, seconds: float, cpu_seconds: float) -> bool:
        """Once it has used its time, or not even asked for it for long."""
        return cpu_seconds > self.exit_seconds or seconds > 10 * self.exit_seconds

    def now(self) -> float:
        """Seconds since the run began."""
        return self.mailbox.now

    def sleep(self, seconds: float) -> None:
        """Virtual `time.sleep`."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self._pause(ActorSleeps(self.actor, seconds))

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Virtual `threading.Event.wait`."""
        if not event.is_set():
            self._pause(ActorSleeps(self.actor, seconds, event))
        return event.is_set()

    def _pause(self, report: ActorSleeps) -> None:
        if not self.killed:
            self.mailbox.report(report)
            self._gate.acquire()
        if self.killed:
            raise ActorKilled


class _ReportingSelector(selectors.DefaultSelector):
    """Says when its event loop is about to wait."""

    runner: EventLoopRunner

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        with self.runner.mailbox.lock:
            generation = self.runner.generation
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.runner.killed:
            return self._hurry(timeout)
        self.runner.mailbox.report(EventLoopIdle(self.runner.actor, generation, timeout))
        return super().select(None)

    def _hurry(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """What a killed actor waits for while it clears up is not the schedule's: if nothing is there, it is late."""
        ready = super().select(_HURRY_SECONDS)
        if not ready and timeout is not None:
            self.runner.skipped += timeout
        return ready


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is the schedule's, less the time for which its actor stood still, as a machine's
    monotonic clock leaves out what it has slept through: what is sent then has not been waited for. Once its actor has
    been killed, and only clears up, time passes as fast as it likes."""

    def __init__(self, runner: EventLoopRunner) -> None:
        selector = _ReportingSelector()
        selector.runner = runner
        self._body = runner
        super().__init__(selector)

    def time(self) -> float:
        return self._body.mailbox.now - self._body.paused_seconds + self._body.skipped


class EventLoopRunner(ActorRunner):
    """A coroutine in an event loop of its own, with virtual time; it may have many connections and commands at once."""

    #: A task is cancelled, and has connections to close: interrupted, it would leave them lying about.
    exit_seconds = 2.0

    def __init__(
        self, mailbox: Mailbox, actor: int, worker: ActorThread, function: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        super().__init__(mailbox, actor, worker)
        self._function = function
        #: What of time has passed for it alone, in seconds.
        self.skipped = 0.0
        self._loop: _VirtualTimeLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def call(self) -> Any:
        """Run the coroutine to its end."""
        __tracebackhide__ = True
        with (
            use_clock(VirtualDateClock(lambda: self.mailbox.now)),
            asyncio.Runner(loop_factory=self._new_loop) as runner,
        ):
            return runner.run(self._main_task())

    def _new_loop(self) -> _VirtualTimeLoop:
        self._loop = _VirtualTimeLoop(self)
        return self._loop

    async def _main_task(self) -> Any:
        self._task = asyncio.current_task()
        try:
            return await self._function()
        except asyncio.CancelledError:
            if self.killed:
                raise ActorKilled from None
            raise

    def wake(self) -> None:
        """Have the loop look at its timers."""
        if self._loop and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel_if_doomed)

    def _cancel_if_doomed(self) -> None:
        if self.killed and self._task:
            self._task.cancel()
