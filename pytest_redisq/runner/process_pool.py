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
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pytest_redisq.endpoint.drivers import drive
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.forms import EndpointFactory, QueueEndpoint
from pytest_redisq.endpoint.jobs import ConsumerJob, Job, ProducerJob
from pytest_redisq.endpoint.user_code import crash_words
from pytest_redisq.endpoint.workload import WorkerState
from pytest_redisq.errors import HistoryError, RedisqError
from pytest_redisq.history import History, Journal, read_history
from pytest_redisq.logs import LogConfig
from pytest_redisq.runner.control_channel import NO_SLOT, STOP, ChannelAddress, ControlServer
from pytest_redisq.runner.status_table import StatusTable
from pytest_redisq.runner.worker_context import WorkerContext
from pytest_redisq.runner.worker_pool import GRACE_SECONDS, WorkerFailure
from pytest_redisq.servers.temporary_folder import explain_full_disk, keep_multiprocessing_folder

#: Looking whether processes have ended, in seconds.
_POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAssignment:
    """All that a worker process is told."""

    job: Job
    factory: EndpointFactory
    number: ChannelAddress
    directory: Path
    slots: int
    logs: LogConfig | None

    @property
    def journal(self) -> Path:
        return self.directory / f"{self.job.name}.history"

    @property
    def crash(self) -> Path:
        return self.directory / f"{self.job.name}.crash"


def run_worker(assignment: WorkerAssignment) -> None:
    """A worker process's life."""
    try:
        line = assignment.number.connect(assignment.job.slot)
    except OSError:
        return  # the runner has died meanwhile
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C goes to the whole group; the runner hears it too, and ends us in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    status_table = StatusTable(assignment.directory / "status_table", assignment.slots)
    status = status_table.status(assignment.job.slot)
    worker = _ProcessWorker(assignment, line)
    try:
        if assignment.logs is not None:
            assignment.logs.attach(worker=assignment.job.name)
        with Journal(assignment.journal) as journal:
            worker.work(WorkerContext(assignment.job, status, journal, _die))
        status.enter(WorkerState.ENDED)
    except BaseException as error:  # SystemExit, too
        told = str(error) if isinstance(error, HistoryError) else crash_words(error)
        if _noted(assignment.crash, told):
            status.enter(WorkerState.ENDED)
    finally:
        worker.hang_up()
        del status
        status_table.close()


def _noted(crash: Path, told: str) -> bool:
    """Whether there was room to note how a worker has failed."""
    try:
        crash.write_text(told)
    except OSError:
        with suppress(OSError):
            crash.unlink()
        return False
    return True


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _ProcessWorker:
    """A worker in its process, with the thread that listens to the runner."""

    def __init__(self, assignment: WorkerAssignment, line: socket.socket) -> None:
        self._assignment = assignment
        self._line = line
        self._go = threading.Event()
        self._stopping = False
        self._finished = False
        self._context: WorkerContext | None = None
        self._endpoint: QueueEndpoint | None = None
        self._listener = threading.Thread(target=self._listen, name="redisq-line", daemon=True)

    def work(self, context: WorkerContext) -> None:
        self._context = context
        self._endpoint = endpoint = self._assignment.factory.open(
            self._assignment.job.name,
            is_producer=isinstance(self._assignment.job, ProducerJob),
            is_async=False,
            fence=Fence(),
        )
        self._listener.start()
        try:
            if isinstance(self._assignment.job, ConsumerJob):
                endpoint.subscribe()
            context.enter(WorkerState.READY)
            self._go.wait()
            context.stopping = self._stopping
            drive(context.steps(endpoint), endpoint.perform)
        finally:
            endpoint.close()

    def hang_up(self) -> None:
        self._finished = True
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        if self._listener.ident is not None:
            self._listener.join()
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
        assert self._context is not None
        assert self._endpoint is not None
        self._context.stopping = True
        if isinstance(self._assignment.job, ConsumerJob):
            with suppress(Exception):  # it ends after its wait, then
                self._endpoint.stop()


class Launcher(Protocol):
    """A way to run `run_worker` in another process."""

    def launch(self, assignment: WorkerAssignment) -> None: ...

    def stillborn(self, slot: int) -> str:
        """How a worker that never reported has ended; empty: not, or not known."""

    def close(self, hang_up: Callable[[], None]) -> None:
        """Have all processes ended and joined; those that live on end when `hang_up` is called."""


class _ProcessLauncher:
    def __init__(self, method: str) -> None:
        if method == "forkserver":
            keep_multiprocessing_folder()
        self._context: Any = multiprocessing.get_context(method)
        self._processes: dict[int, multiprocessing.Process] = {}

    def launch(self, assignment: WorkerAssignment) -> None:
        process = self._context.Process(target=run_worker, args=(assignment,), name=assignment.job.name)
        self._processes[assignment.job.slot] = process
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


class _PoolLauncher:
    def __init__(self, method: str, size: int, number: ChannelAddress) -> None:
        self._pool = multiprocessing.get_context(method).Pool(size, _die_with, (number,))

    def launch(self, assignment: WorkerAssignment) -> None:
        self._pool.apply_async(run_worker, (assignment,))

    def stillborn(self, slot: int) -> str:  # noqa: ARG002  a pool replaces a process that ends, and says nothing
        return ""

    def close(self, hang_up: Callable[[], None]) -> None:
        self._pool.terminate()  # first, or it would replace those that hang up
        self._pool.join()
        hang_up()


class _ExecutorLauncher:
    def __init__(self, method: str, size: int, number: ChannelAddress) -> None:
        context = multiprocessing.get_context(method)
        self._executor = ProcessPoolExecutor(size, context, _die_with, (number,))
        self._futures: dict[int, Any] = {}

    def launch(self, assignment: WorkerAssignment) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._futures[assignment.job.slot] = self._executor.submit(run_worker, assignment)

    def stillborn(self, slot: int) -> str:
        future = self._futures.get(slot)
        error = future.exception() if future is not None and future.done() else None
        return "" if error is None else f"could not be run: {error!r}"

    def close(self, hang_up: Callable[[], None]) -> None:
        hang_up()
        self._executor.shutdown(cancel_futures=True)


def _die_with(number: ChannelAddress) -> None:
    """A pool's process, which may have no work, or none any more: end when the runner does."""
    try:
        line = number.connect(NO_SLOT)
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


def _launcher(workers: str, size: int, number: ChannelAddress) -> Launcher:
    match workers:
        case "pool":
            return _PoolLauncher(best_method(), size, number)
        case "executor":
            return _ExecutorLauncher(best_method(), size, number)
        case "process":
            return _ProcessLauncher(best_method())
        case _:
            return _ProcessLauncher(workers)


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


class ProcessWorkerPool:
    """A process for each worker."""

    def __init__(
        self, factory: EndpointFactory, directory: Path, slots: int, logs: LogConfig | None, workers: str
    ) -> None:
        self._factory = factory
        self._directory = directory
        self._slots = slots
        self._logs = logs
        self._channels = ControlServer(directory)
        self._launcher = _launcher(workers, slots, self._channels.number)
        self._status_table = StatusTable(directory / "status_table", slots)
        self._assignments: dict[int, WorkerAssignment] = {}
        self._killed: set[int] = set()
        self._ended: set[int] = set()
        self._gone = False
        self._crashes: dict[int, WorkerFailure] = {}

    def add(self, job: Job) -> None:
        assignment = self._assignments[job.slot] = WorkerAssignment(
            job=job,
            factory=self._factory,
            number=self._channels.number,
            directory=self._directory,
            slots=self._slots,
            logs=self._logs,
        )
        self._launcher.launch(assignment)

    def go(self) -> None:
        self._gone = True
        for slot in self._assignments:
            self._channels.send_start(slot)

    def poll(self) -> None:
        for slot in self._channels.accept():
            if self._gone:
                self._channels.send_start(slot)
        for slot, assignment in self._assignments.items():
            if slot not in self._ended:
                self._look_after(slot, assignment)

    def stop(self, slot: int) -> None:
        self._channels.send(slot, STOP)

    def kill(self, slot: int) -> None:
        self._killed.add(slot)
        self._channels.kill(slot)

    def expect_death(self, slot: int) -> None:
        """The worker was ordered to kill itself: its death is no crash."""
        self._killed.add(slot)

    def crashes(self) -> list[WorkerFailure]:
        return list(self._crashes.values())

    def histories(self) -> list[History]:
        return [
            read_history(assignment.journal) for assignment in self._assignments.values() if assignment.journal.exists()
        ]

    def close(self) -> list[str]:
        deadline = time.monotonic() + GRACE_SECONDS
        for slot in self._assignments:
            self.stop(slot)
        while len(self._ended) < len(self._assignments) and time.monotonic() < deadline:
            self.poll()
            time.sleep(_POLL_SECONDS)
        for slot in self._assignments:
            self.kill(slot)
        self._launcher.close(self._channels.close)
        self._status_table.close()
        return []

    def _look_after(self, slot: int, assignment: WorkerAssignment) -> None:
        how = self._launcher.stillborn(slot) if not self._channels.connected(slot) else ""
        if not how and not self._channels.disconnected(slot):
            return
        self._ended.add(slot)
        status = self._status_table.status(slot)
        if assignment.crash.exists():
            self._crashes[slot] = WorkerFailure(assignment.job.name, assignment.crash.read_text())
        elif status.state is not WorkerState.ENDED and slot not in self._killed:
            role = "put" if isinstance(assignment.job, ProducerJob) else "received"
            done = (
                f"its process ended of itself, while it {status.state.words}, having {role} {status.messages} messages"
            )
            self._crashes[slot] = WorkerFailure(assignment.job.name, how or self._no_room() or done)
        status.enter(WorkerState.ENDED)

    def _no_room(self) -> str:
        """What kept a worker from noting how it failed, if there is no room; empty otherwise."""
        probe = self._directory / "probe"
        try:
            with explain_full_disk():
                probe.write_bytes(bytes(4096))
                probe.unlink()
        except RedisqError as error:
            return str(error)
        return ""
