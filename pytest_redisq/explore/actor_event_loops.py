"""Runs an actor's coroutine in an event loop of its own, whose clock is virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

from pytest_redisq.explore.actor_threads import ActorKilled, ActorRunner, ActorThread, runnable
from pytest_redisq.explore.mailbox import ActorIdle, Mailbox
from pytest_redisq.explore.virtual_time import VirtualDateClock, is_sleep, use_clock

#: Seconds that a killed actor's event loop waits for input.
_HURRY_SECONDS = 0.002
#: Seconds between two looks at the threads of executors that an event loop waits for. After so many looks at which
#: none runs, they wait for something inside the program.
_LOOK_SECONDS, _LOOKS = 0.002, 500


class _ReportingSelector(selectors.DefaultSelector):
    """Reports when its event loop is about to wait."""

    runner: EventLoopRunner

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        with self.runner.mailbox.lock:
            generation = self.runner.generation
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.runner.killed:
            return self._hurry(timeout)
        if self.runner.jobs:
            return self._wait_for_jobs(timeout)
        self.runner.mailbox.report(ActorIdle(self.runner.actor, generation, timeout))
        return super().select(None)

    def _wait_for_jobs(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait while threads of an executor are at work. They do not report; but the proxy has their commands."""
        reported, looks = -1, 0
        while not (ready := super().select(_LOOK_SECONDS)):
            if self.runner.killed:
                return self._hurry(timeout)
            with self.runner.mailbox.lock:
                generation = self.runner.generation
            looks = 0 if generation == reported or self.runner.jobs_run() else looks + 1
            if generation != reported and (looks >= _LOOKS or self.runner.commands() >= self.runner.jobs):
                self.runner.mailbox.report(ActorIdle(self.runner.actor, generation, timeout))
                reported = generation
        return ready

    def _hurry(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for a killed actor that only cleans up: not for the schedule, and not for longer than
        `_HURRY_SECONDS`.
        """
        ready = super().select(_HURRY_SECONDS)
        if not ready and timeout is not None:
            self.runner.skipped += timeout
        return ready


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is virtual time, without the time for which its actor was paused.

    A machine's monotonic clock also leaves out the time for which the machine slept. After a kill, time passes as fast
    as the cleanup wants.
    """

    def __init__(self, runner: EventLoopRunner) -> None:
        selector = _ReportingSelector()
        selector.runner = runner
        self._body = runner
        super().__init__(selector)

    def time(self) -> float:
        return self._body.mailbox.now - self._body.paused_seconds + self._body.skipped

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        def call() -> Any:
            thread = threading.get_native_id()
            self._body.job_threads.add(thread)
            try:
                return func(*args)
            finally:
                self._body.job_threads.discard(thread)

        in_threads = executor is None or isinstance(executor, ThreadPoolExecutor)
        future = super().run_in_executor(executor, *((call,) if in_threads else (func, *args)))
        self._body.jobs += 1
        future.add_done_callback(self._body.end_job)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        self._body.jobs += 1  # a thread joins those of the executor
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._body.end_job()


class EventLoopRunner(ActorRunner):
    """Runs a coroutine in an event loop of its own, in virtual time. It may have many connections and commands at
    once. `commands`: how many of them the proxy has, without a reply.
    """

    #: The cancelled task closes its connections, which an interruption would leave open.
    exit_seconds: float = 2.0

    def __init__(
        self,
        mailbox: Mailbox,
        actor: int,
        actor_thread: ActorThread,
        function: Callable[[], Coroutine[Any, Any, Any]],
        stop: Callable[[], object] | None = None,
        *,
        commands: Callable[[], int],
    ) -> None:
        super().__init__(mailbox, actor, actor_thread)
        self.commands = commands
        #: How many calls in threads of an executor the event loop waits for.
        self.jobs: int = 0
        #: The kernel's ids of the threads that have begun.
        self.job_threads: set[int] = set()
        self._function = function
        self._stop = stop
        #: Seconds that passed for this actor only, while it cleaned up.
        self.skipped: float = 0.0
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

    def end_job(self, _: object = None) -> None:
        """A thread of an executor has ended its work."""
        self.jobs -= 1

    def jobs_run(self) -> bool:
        """Whether a thread of an executor runs, or waits only for a CPU."""
        return any(runnable(Path(f"/proc/self/task/{thread}")) for thread in tuple(self.job_threads))

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
            if self.terminated:
                return None
            raise

    def should_interrupt(self, seconds: float, cpu_seconds: float) -> bool:
        """Whether it has had its time. While it only waits for a CPU, it has ten times as long."""
        return (
            cpu_seconds > self.exit_seconds
            or seconds > 10 * self.exit_seconds
            or (seconds > self.exit_seconds and not self.busy())
        )

    def waits_at(self) -> FrameType | None:
        """Where its thread waits, if neither for input of the loop nor for a CPU; None otherwise."""
        innermost = frame = self.actor_thread.frame()
        if innermost is None or (self.busy() and not is_sleep(innermost)):
            return None
        while frame is not None:
            if frame.f_code is _ReportingSelector.select.__code__:
                return None
            frame = frame.f_back
        return innermost

    def wake(self) -> None:
        """Have the loop look at its timers."""
        if self._loop and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancel_if_killed)

    @property
    def can_be_terminated(self) -> bool:
        """Whether the coroutine runs."""
        return self._task is not None

    def terminate(self) -> None:
        """Call the function that asks the coroutine to end, in its loop; without one, cancel the coroutine."""
        self._ask(self._stop)

    @property
    def can_be_cancelled(self) -> bool:
        """Whether the coroutine runs."""
        return self._task is not None

    def cancel(self) -> None:
        """Cancel the coroutine."""
        self._ask(None)

    def _ask(self, stop: Callable[[], object] | None) -> None:
        self.terminated = True
        if self._loop and self._task:
            self._loop.call_soon_threadsafe(stop or self._task.cancel)

    def _cancel_if_killed(self) -> None:
        if self.killed and self._task:
            self._task.cancel()
