"""Runs an actor's code in a thread, which can be killed; its sleeps and waits are virtual."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import queue
import select
import socket
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_redisq import interrupts
from pytest_redisq.explore.mailbox import ActorEnded, ActorIdle, ActorSleeps, Mailbox
from pytest_redisq.explore.virtual_socket_waits import Poller
from pytest_redisq.explore.virtual_time import use_clock


class ActorKilled(BaseException):
    """Raised inside an actor that a fault has killed, so that its thread ends. Do not catch it."""


@contextlib.contextmanager
def silent_kills() -> Iterator[None]:
    """Have the interpreter not report an `ActorKilled` that it has to ignore, as in a destructor or a weakref
    callback.

    No interruption can avoid such places for certain; the thread is then interrupted again.
    """
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
    """A thread that runs one function after the other, which is cheaper than a new thread for each."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread: threading.Thread = threading.Thread(target=self._work, name="redisq-actor", daemon=True)
        interrupts.start(self.thread)

    def run(self, job: Callable[[], None]) -> None:
        """Run `job` after the jobs that it already has."""
        self._jobs.put(job)

    def stop(self) -> None:
        """End the thread after the jobs that it has."""
        self._jobs.put(None)

    def interrupt(self) -> None:
        """Raise `ActorKilled` in the thread as soon as it runs Python code again, which ends the thread.

        Does nothing while the thread is in a destructor or a garbage collector's callback, which would swallow the
        error.
        """
        ident = self.thread.ident or 0
        if not _clears_up(self.frame()):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(ActorKilled))

    def _work(self) -> None:
        with contextlib.suppress(ActorKilled):
            while (job := self._jobs.get()) is not None:
                job()

    def frame(self) -> FrameType | None:
        """The frame that the thread is in; None if it has ended."""
        return sys._current_frames().get(self.thread.ident or 0)

    def where(self) -> str:
        """Where in the code the thread is."""
        frame = self.frame()
        return "".join(traceback.format_stack(frame)[-4:]) if frame else "(its thread has ended)\n"


def _clears_up(frame: FrameType | None) -> bool:
    """Whether the frame is inside a destructor, or inside a callback of the garbage collector."""
    callbacks = [getattr(callback, "__code__", None) for callback in gc.callbacks]
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code in callbacks:
            return True
        frame = frame.f_back
    return False


class ActorRunner(ABC):
    """Runs an actor's code. `generation` counts what has been delivered to it."""

    #: Seconds that a killed actor has to end by itself, before its thread is interrupted.
    exit_seconds: float

    def __init__(self, mailbox: Mailbox, actor: int, actor_thread: ActorThread) -> None:
        self.mailbox = mailbox
        self.actor = actor
        self.actor_thread = actor_thread
        self.generation = 0
        #: For how long it has been paused, in seconds of virtual time.
        self.paused_seconds: float = 0.0
        self.killed: bool = False
        self.terminated: bool = False
        self.result: Any = None
        self.error: BaseException | None = None

    def start(self) -> None:
        """Start the code."""
        self.actor_thread.run(self._main)

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
        """The CPU time that it has used so far; 0 where the operating system does not tell."""
        if not hasattr(time, "pthread_getcpuclockid") or not self.actor_thread.thread.is_alive():
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self.actor_thread.thread.ident or 0))

    def busy(self) -> bool:
        """Whether it runs, or waits only for a CPU, as Linux reports it."""
        return runnable(Path(f"/proc/self/task/{self.actor_thread.thread.native_id}"))

    @abstractmethod
    def wake(self) -> None:
        """End a sleep or a wait."""

    @property
    @abstractmethod
    def can_be_terminated(self) -> bool:
        """Whether the code can be asked to end."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask the code to end."""

    @property
    def can_be_cancelled(self) -> bool:
        """Whether the code is a task."""
        return False

    def cancel(self) -> None:
        """Cancel the task."""
        raise NotImplementedError

    def kill(self) -> None:
        """Make the code end soon. It can no longer reach the server."""
        self.killed = True
        self.wake()

    def should_interrupt(self, seconds: float, cpu_seconds: float) -> bool:  # noqa: ARG002
        """Whether to interrupt the thread, `seconds` of real time and `cpu_seconds` of CPU time after the kill."""
        return seconds > self.exit_seconds


def runnable(task: Path) -> bool:
    """Whether a task of /proc runs, or waits only for a CPU or a disk."""
    try:
        state = (task / "stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:  # it has ended, or this is no Linux
        return False
    return state in (b"R", b"D")


class ThreadRunner(ActorRunner):
    """Runs a function in a thread, in virtual time."""

    #: Seconds of CPU time, because a busy machine may run the thread late.
    exit_seconds: float = 0.02

    def __init__(
        self,
        mailbox: Mailbox,
        actor: int,
        actor_thread: ActorThread,
        function: Callable[[], Any],
        controls: Callable[[object], bool],
        stop: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(mailbox, actor, actor_thread)
        self._function = function
        self._stop = stop
        #: Whether an address is the proxy's, so that the schedule decides when a wait for it ends.
        self.controls: Callable[[object], bool] = controls
        # Not a threading.Semaphore: Ctrl-C could leave its lock locked.
        self._wakings: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._reports_waits = False
        #: The reading and the writing end of a pipe that ends a wait on sockets; empty: it has not waited yet.
        self._alarm: tuple[socket.socket, ...] = ()
        self._polls = False

    def call(self) -> Any:
        """Run the function."""
        __tracebackhide__ = True
        try:
            with use_clock(self):
                return self._function()
        finally:
            for end in self._alarm:
                end.close()

    def wake(self) -> None:
        """Let the sleep, or the wait on sockets, end."""
        if self._polls:
            with contextlib.suppress(OSError):  # its code has ended
                self._alarm[1].send(b".")
        else:
            self._wakings.put(None)

    @property
    def can_be_terminated(self) -> bool:
        """Whether there is a function that asks the code to end."""
        return self._stop is not None

    def terminate(self) -> None:
        """Call that function."""
        if self._stop:
            self._stop()

    def should_interrupt(self, seconds: float, cpu_seconds: float) -> bool:
        """Whether it has used its CPU time, or got no CPU for ten times as long."""
        return cpu_seconds > self.exit_seconds or seconds > 10 * self.exit_seconds

    def now(self) -> float:
        """Seconds of virtual time since the execution began."""
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

    @property
    def reports_waits(self) -> bool:
        """Whether its waits on sockets have limits. Then it reports each wait, and is quiet only when it has."""
        return self._reports_waits

    def expect_limits(self) -> None:
        """Note that its waits on sockets have limits."""
        self._reports_waits = True

    def poll(self, poller: Poller, seconds: float | None) -> list[tuple[int, int]]:
        """Virtual `poll` of a `select.poll` object."""
        if seconds is None and not self._reports_waits:
            return poller.poll()
        generation = self._received()
        ready = poller.poll(0)
        if ready or seconds == 0:
            return ready
        self._reports_waits = True
        if not self._alarm:
            self._alarm = socket.socketpair()
        poller.register(self._alarm[0], select.POLLIN)
        self._polls = True
        try:
            if not self.killed:
                self.mailbox.report(ActorIdle(self.actor, generation, seconds))
                ready = poller.poll(None)
        finally:
            self._polls = False
            poller.unregister(self._alarm[0])
        if self.killed:
            raise ActorKilled
        alarm = self._alarm[0].fileno()
        if any(descriptor == alarm for descriptor, _ in ready):
            self._alarm[0].recv(1)
        elif self._received() == generation:  # what has come is not from the proxy, which believes that it still waits
            self._pause(ActorSleeps(self.actor, 0))
        return [each for each in ready if each[0] != alarm]

    def _received(self) -> int:
        with self.mailbox.lock:
            return self.generation

    def _pause(self, report: ActorSleeps) -> None:
        if not self.killed:
            self.mailbox.report(report)
            self._wakings.get()
        if self.killed:
            raise ActorKilled
