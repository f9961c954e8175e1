"""Workers as threads and as asyncio tasks of this process, and what the runner may ask of any pool."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple, Protocol

from pytest_redisq import interrupts
from pytest_redisq.endpoint.drivers import drive, drive_async
from pytest_redisq.endpoint.event_loop import LoopThread
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.forms import EndpointFactory, QueueEndpoint, awaited
from pytest_redisq.endpoint.jobs import ConsumerJob, Job, ProducerJob
from pytest_redisq.endpoint.outcomes import WorkerKilled
from pytest_redisq.endpoint.user_code import crash_words
from pytest_redisq.endpoint.workload import WorkerState
from pytest_redisq.history import Recorder
from pytest_redisq.runner.status_table import StatusTable
from pytest_redisq.runner.worker_context import WorkerContext

#: How long workers that were told to stop may take, and again after their connections were cut, in seconds.
GRACE_SECONDS = 2.0


class WorkerFailure(NamedTuple):
    """A worker that ended by an error which is neither the network's nor the server's."""

    name: str
    words: str


def failures_by_message(crashes: Iterable[WorkerFailure]) -> str:
    r"""What went wrong, each error once, with all workers that it met in its first line.

    >>> failures = [("one", "a bug\n  its line"), ("two", "another\n"), ("three", "a bug\n  its line")]
    >>> failures_by_message(WorkerFailure(*each) for each in failures)
    'a bug [one, three]\n  its line\nanother [two]'
    """
    names = defaultdict[str, list[str]](list)
    for crash in crashes:
        names[crash.words.rstrip()].append(crash.name)
    texts = []
    for words, workers in names.items():
        first, newline, rest = words.partition("\n")
        texts.append(f"{first} [{', '.join(workers)}]{newline}{rest}")
    return "\n".join(texts)


class WorkerPool(Protocol):
    """Some workers of one kind. Slots are those of their jobs. Only the runner's thread calls these."""

    def add(self, job: Job) -> None:
        """Start a worker, which gets itself ready and then waits for `go` (unless that has been said already)."""

    def go(self) -> None: ...

    def poll(self) -> None:
        """Called every few milliseconds."""

    def stop(self, slot: int) -> None:
        """Have a worker end after the call that it is in, cutting short a `get` that waits if the queue can do that."""

    def kill(self, slot: int) -> None:
        """Have a worker end as by SIGKILL."""

    def crashes(self) -> list[WorkerFailure]: ...

    def close(self) -> list[str]:
        """Have nothing left of the pool; the names of workers that could not be ended."""


class _LocalWorker:
    """A worker in this process."""

    def __init__(self, job: Job, status_table: StatusTable, recorder: Recorder) -> None:
        self.job = job
        self.status = status_table.status(job.slot)
        self.fence = Fence()
        self.endpoint: QueueEndpoint | None = None
        self.context = WorkerContext(job, self.status, recorder, self.die)

    def die(self) -> None:
        self.cut()
        raise WorkerKilled

    def cut(self) -> None:
        """Cut the worker off. The thread of a consumer command first records what the command had written."""
        self.context.dead = self.endpoint is None or not self.endpoint.runs_dry
        self.fence.close()
        if self.endpoint is not None:
            self.endpoint.kill()

    def open(self, factory: EndpointFactory, *, is_async: bool) -> QueueEndpoint:
        self.endpoint = factory.open(
            self.job.name, is_producer=isinstance(self.job, ProducerJob), is_async=is_async, fence=self.fence
        )
        return self.endpoint


class ThreadWorkerPool:
    """A thread for each worker."""

    def __init__(self, factory: EndpointFactory, status_table: StatusTable, recorder: Recorder) -> None:
        self._factory = factory
        self._status_table = status_table
        self._recorder = recorder
        self._go = threading.Event()
        self._members: dict[int, tuple[_LocalWorker, threading.Thread]] = {}
        self._crashes: list[WorkerFailure] = []

    def add(self, job: Job) -> None:
        member = _LocalWorker(job, self._status_table, self._recorder)
        thread = threading.Thread(target=self._live, args=(member,), name=job.name, daemon=True)
        self._members[job.slot] = member, thread
        interrupts.start(thread)

    def go(self) -> None:
        with interrupts.deferred():
            self._go.set()

    def poll(self) -> None:
        """Threads need none."""

    def stop(self, slot: int) -> None:
        member, _ = self._members[slot]
        member.context.stopping = True
        if member.endpoint is not None and isinstance(member.job, ConsumerJob):
            member.endpoint.stop()

    def kill(self, slot: int) -> None:
        self._members[slot][0].cut()

    def crashes(self) -> list[WorkerFailure]:
        return list(self._crashes)

    def close(self) -> list[str]:
        for slot in self._living():
            with suppress(Exception):
                self.stop(slot)
        self.go()
        self._join(GRACE_SECONDS)
        for slot in self._living():
            self.kill(slot)
        self._join(GRACE_SECONDS)
        for slot in self._living():
            # It waits for something other than the server. This ends it as soon as it executes Python again.
            ident = self._members[slot][1].ident or 0
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(WorkerKilled))
        self._join(GRACE_SECONDS)
        return [self._members[slot][0].job.name for slot in self._living()]

    def _living(self) -> list[int]:
        return [slot for slot, (_, thread) in self._members.items() if thread.is_alive()]

    def _join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for _, thread in self._members.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _live(self, member: _LocalWorker) -> None:
        try:
            endpoint = member.open(self._factory, is_async=False)
            try:
                if isinstance(member.job, ConsumerJob):
                    endpoint.subscribe()
                member.status.enter(WorkerState.READY)
                self._go.wait()
                drive(member.context.steps(endpoint), endpoint.perform)
            finally:
                endpoint.close()
        except WorkerKilled:
            pass
        except BaseException as error:  # SystemExit, too: nothing else would report this worker
            if not member.context.dead:
                self._crashes.append(WorkerFailure(member.job.name, crash_words(error)))
        finally:
            member.status.enter(WorkerState.ENDED)


class TaskWorkerPool:
    """A task for each worker, all in one loop, in a thread of its own."""

    def __init__(self, factory: EndpointFactory, status_table: StatusTable, recorder: Recorder) -> None:
        self._factory = factory
        self._status_table = status_table
        self._recorder = recorder
        self._loop = LoopThread("redisq-tasks")
        self._go = asyncio.Event()
        self._members: dict[int, _LocalWorker] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._crashes: list[WorkerFailure] = []

    def add(self, job: Job) -> None:
        member = self._members[job.slot] = _LocalWorker(job, self._status_table, self._recorder)
        self._loop.do(lambda: self._start(member), GRACE_SECONDS)

    def go(self) -> None:
        self._loop.do_soon(self._go.set)

    def poll(self) -> None:
        """The loop tends them."""

    def stop(self, slot: int) -> None:
        member = self._members[slot]
        member.context.stopping = True
        if isinstance(member.job, ConsumerJob):
            self._loop.do(lambda: self._stop(member), GRACE_SECONDS)

    def kill(self, slot: int) -> None:
        self._loop.do_soon(self._members[slot].cut)

    def crashes(self) -> list[WorkerFailure]:
        return list(self._crashes)

    def close(self) -> list[str]:
        if self._loop.closed:
            return []
        with suppress(TimeoutError):
            self._loop.do(self._end_all, 4 * GRACE_SECONDS)
        self._loop.close()
        if self._loop.closed:
            return []
        return [member.job.name for member in self._members.values() if member.status.state is not WorkerState.ENDED]

    async def _start(self, member: _LocalWorker) -> None:
        self._tasks[member.job.slot] = asyncio.create_task(self._live(member), name=member.job.name)

    async def _stop(self, member: _LocalWorker) -> None:
        if member.endpoint is not None:
            await awaited(member.endpoint.stop())

    async def _end_all(self) -> None:
        for member in self._members.values():
            member.context.stopping = True
            if member.status.state is not WorkerState.ENDED and isinstance(member.job, ConsumerJob):
                with suppress(Exception):
                    await asyncio.wait_for(self._stop(member), GRACE_SECONDS)
        self._go.set()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks.values(), timeout=GRACE_SECONDS)
        for slot, task in self._tasks.items():
            if task in late:
                self._members[slot].cut()
                task.cancel()
        if late:
            await asyncio.wait(late, timeout=GRACE_SECONDS)

    async def _live(self, member: _LocalWorker) -> None:
        try:
            endpoint = member.open(self._factory, is_async=True)
            try:
                if isinstance(member.job, ConsumerJob):
                    await awaited(endpoint.subscribe())
                member.status.enter(WorkerState.READY)
                await self._go.wait()
                await drive_async(member.context.steps(endpoint), endpoint.perform_async)
            finally:
                await endpoint.close_async()
        except WorkerKilled:
            pass
        except BaseException as error:  # SystemExit, which would end the loop; and a cancellation that is not ours
            if not member.context.dead:
                self._crashes.append(WorkerFailure(member.job.name, crash_words(error)))
        finally:
            member.status.enter(WorkerState.ENDED)
