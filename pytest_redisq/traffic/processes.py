"""Workers as processes, by every start method and in pools."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pytest_redisq.history import History, Journal, read_history
from pytest_redisq.logs import LogConfig
from pytest_redisq.servers.scratch import keep_multiprocessing_folder
from pytest_redisq.traffic.board import Board, State
from pytest_redisq.traffic.crew import GRACE_SECONDS, Crash, drive, steps_of
from pytest_redisq.traffic.ends import End, Source
from pytest_redisq.traffic.line import NOBODY, STOP, Exchange, Number
from pytest_redisq.traffic.plan import ConsumerJob, Job, ProducerJob
from pytest_redisq.traffic.steps import Desk

#: Looking whether processes have ended, in seconds.
_POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """All that a worker process is told."""

    job: Job
    source: Source
    number: Number
    directory: Path
    slots: int
    logs: LogConfig | None

    @property
    def journal(self) -> Path:
        return self.directory / f"{self.job.name}.history"

    @property
    def crash(self) -> Path:
        return self.directory / f"{self.job.name}.crash"


def live(brief: Brief) -> None:
    """A worker process's life."""
    try:
        line = brief.number.dial(brief.job.slot)
    except OSError:
        return  # the conductor has died meanwhile
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C goes to the whole group; the conductor hears it too, and ends us in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    board = Board(brief.directory / "board", brief.slots)
    slot = board.slot(brief.job.slot)
    worker = _Worker(brief, line)
    try:
        if brief.logs is not None:
            brief.logs.attach(worker=brief.job.name)
        with Journal(brief.journal) as journal:
            worker.work(Desk(slot=slot, recording=journal, die=_die))
    except BaseException:  # SystemExit, too
        brief.crash.write_text(traceback.format_exc())
    finally:
        slot.enter(State.ENDED)
        worker.hang_up()
        del slot
        board.close()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Worker:
    """A worker in its process, with the thread that listens to the conductor."""

    def __init__(self, brief: Brief, line: socket.socket) -> None:
        self._brief = brief
        self._line = line
        self._go = threading.Event()
        self._stopping = False
        self._finished = False
        self._desk: Desk | None = None
        self._end: End | None = None
        self._ear = threading.Thread(target=self._listen, name="redisq-line", daemon=True)

    def work(self, desk: Desk) -> None:
        self._desk = desk
        self._end = end = End(self._brief.source, self._brief.job, is_async=False, gate=None)
        self._ear.start()
        try:
            if isinstance(self._brief.job, ConsumerJob):
                end.subscribe()
            desk.slot.enter(State.READY)
            self._go.wait()
            desk.stopping = self._stopping
            desk.started_ns = time.monotonic_ns()
            drive(steps_of(self._brief.job, desk, end), end)
        finally:
            end.close()

    def hang_up(self) -> None:
        self._finished = True
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        if self._ear.ident is not None:
            self._ear.join()
        self._line.close()

    def _listen(self) -> None:
        while word := self._heard():
            if word == STOP:
                self._stop()
            self._go.set()
        if not self._finished:
            os._exit(1)

    def _heard(self) -> bytes:
        try:
            return self._line.recv(1)
        except OSError:
            return b""

    def _stop(self) -> None:
        self._stopping = True
        assert self._desk is not None
        assert self._end is not None
        self._desk.stopping = True
        if isinstance(self._brief.job, ConsumerJob):
            with suppress(Exception):  # it ends after its wait, then
                self._end.stop()


class Launcher(Protocol):
    """A way to run `live` in another process."""

    def launch(self, brief: Brief) -> None: ...

    def stillborn(self, slot: int) -> str:
        """How a worker that never reported has ended; empty: not, or not known."""

    def close(self, hang_up: Callable[[], None]) -> None:
        """Have all processes ended and joined; those that live on end when `hang_up` is called."""


class _Processes:
    def __init__(self, method: str) -> None:
        if method == "forkserver":
            keep_multiprocessing_folder()
        self._context: Any = multiprocessing.get_context(method)
        self._processes: dict[int, multiprocessing.Process] = {}

    def launch(self, brief: Brief) -> None:
        process = self._context.Process(target=live, args=(brief,), name=brief.job.name)
        self._processes[brief.job.slot] = process
        with warnings.catch_warnings():
            # Asked to fork a process that has threads: the warning is for those who did not ask.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()

    def stillborn(self, slot: int) -> str:
        process = self._processes.get(slot)
        if process is None or process.exitcode is None:
            return ""
        return f"ended with exit code {process.exitcode} before it was ready; its standard error says why"

    def close(self, hang_up: Callable[[], None]) -> None:
        hang_up()
        for process in self._processes.values():
            process.join(GRACE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._processes.clear()


class _Pool:
    def __init__(self, method: str, size: int, number: Number) -> None:
        self._pool = multiprocessing.get_context(method).Pool(size, _die_with, (number,))

    def launch(self, brief: Brief) -> None:
        self._pool.apply_async(live, (brief,))

    def stillborn(self, slot: int) -> str:  # noqa: ARG002  a pool replaces a process that ends, and says nothing
        return ""

    def close(self, hang_up: Callable[[], None]) -> None:
        self._pool.terminate()  # first, or it would replace those that hang up
        self._pool.join()
        hang_up()


class _Executor:
    def __init__(self, method: str, size: int, number: Number) -> None:
        context = multiprocessing.get_context(method)
        self._executor = ProcessPoolExecutor(size, context, _die_with, (number,))
        self._futures: dict[int, Any] = {}

    def launch(self, brief: Brief) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._futures[brief.job.slot] = self._executor.submit(live, brief)

    def stillborn(self, slot: int) -> str:
        future = self._futures.get(slot)
        error = future.exception() if future is not None and future.done() else None
        return "" if error is None else f"could not be run: {error!r}"

    def close(self, hang_up: Callable[[], None]) -> None:
        hang_up()
        self._executor.shutdown(cancel_futures=True)


def _die_with(number: Number) -> None:
    """A pool's process, which may have no work, or none any more: end when the conductor does."""
    try:
        line = number.dial(NOBODY)
    except OSError:  # it has died already
        os._exit(1)
    threading.Thread(target=_await_the_end, args=(line,), name="redisq-line", daemon=True).start()


def _await_the_end(line: socket.socket) -> None:
    word = b""
    with line, suppress(OSError):
        word = line.recv(1)
    if word == STOP:
        os._exit(0)
    os._exit(1)  # it was killed


def best_method() -> str:
    """fork where it is safe enough, since it is quick and takes queues that cannot be pickled; else spawn."""
    return "fork" if sys.platform == "linux" else "spawn"


def _launcher(workers: str, size: int, number: Number) -> Launcher:
    match workers:
        case "pool":
            return _Pool(best_method(), size, number)
        case "executor":
            return _Executor(best_method(), size, number)
        case "process":
            return _Processes(best_method())
        case _:
            return _Processes(workers)


def check_picklable(workers: str, **things: object) -> None:
    """Raises TypeError, naming the one that cannot be sent to a new process, and the ways out."""
    if workers in ("process", "fork") and best_method() == "fork":
        return
    for name, thing in things.items():
        try:
            pickle.dumps(thing)
        except Exception as error:
            raise TypeError(
                f"workers={workers!r} sends the {name} to other processes, and {thing!r} cannot be pickled: {error}. "
                "Ways out: define it at the top level of a module that can be imported; give an object with "
                'bind(client) that holds no client; or use workers="fork", "thread" or "asyncio".'
            ) from error


class ProcessCrew:
    """A process for each worker."""

    def __init__(self, source: Source, directory: Path, slots: int, logs: LogConfig | None, workers: str) -> None:
        self._source = source
        self._directory = directory
        self._slots = slots
        self._logs = logs
        self._exchange = Exchange(directory)
        self._launcher = _launcher(workers, slots, self._exchange.number)
        self._board = Board(directory / "board", slots)
        self._briefs: dict[int, Brief] = {}
        self._killed: set[int] = set()
        self._ended: set[int] = set()
        self._gone = False
        self._crashes: dict[int, Crash] = {}

    def hire(self, job: Job) -> None:
        brief = self._briefs[job.slot] = Brief(
            job=job,
            source=self._source,
            number=self._exchange.number,
            directory=self._directory,
            slots=self._slots,
            logs=self._logs,
        )
        self._launcher.launch(brief)

    def go(self) -> None:
        self._gone = True
        for slot in self._briefs:
            self._exchange.greet(slot)

    def tend(self) -> None:
        for slot in self._exchange.answer():
            if self._gone:
                self._exchange.greet(slot)
        for slot, brief in self._briefs.items():
            if slot not in self._ended:
                self._look_after(slot, brief)

    def stop(self, slot: int) -> None:
        self._exchange.say(slot, STOP)

    def kill(self, slot: int) -> None:
        self._killed.add(slot)
        self._exchange.kill(slot)

    def expect_death(self, slot: int) -> None:
        """The worker was ordered to kill itself: its death is no crash."""
        self._killed.add(slot)

    def crashes(self) -> list[Crash]:
        return list(self._crashes.values())

    def histories(self) -> list[History]:
        return [read_history(brief.journal) for brief in self._briefs.values() if brief.journal.exists()]

    def close(self) -> list[str]:
        deadline = time.monotonic() + GRACE_SECONDS
        for slot in self._briefs:
            self.stop(slot)
        while len(self._ended) < len(self._briefs) and time.monotonic() < deadline:
            self.tend()
            time.sleep(_POLL_SECONDS)
        for slot in self._briefs:
            self.kill(slot)
        self._launcher.close(self._exchange.close)
        self._board.close()
        return []

    def _look_after(self, slot: int, brief: Brief) -> None:
        how = self._launcher.stillborn(slot) if not self._exchange.connected(slot) else ""
        if not how and not self._exchange.hung_up(slot):
            return
        self._ended.add(slot)
        state = self._board.slot(slot)
        if brief.crash.exists():
            self._crashes[slot] = Crash(brief.job.name, brief.crash.read_text())
        elif state.state is not State.ENDED and slot not in self._killed:
            role = "put" if isinstance(brief.job, ProducerJob) else "received"
            done = f"its process ended of itself, while it {state.state.words}, having {role} {state.messages} messages"
            self._crashes[slot] = Crash(brief.job.name, how or done)
        state.enter(State.ENDED)
