"""Runs an actor's code in a thread, which can be killed; its sleeps and waits are virtual."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import queue
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_redisq.explore.mailbox import ActorEnded, ActorSleeps, Mailbox
from pytest_redisq.explore.virtual_time import use_clock


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
