"""Workers as threads and as asyncio tasks of this process, and what the conductor may ask of any crew."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from pytest_redisq.history import Recorder
from pytest_redisq.traffic.board import Board, State
from pytest_redisq.traffic.ends import End, Gate, Source, awaited
from pytest_redisq.traffic.plan import ConsumerJob, Job, ProducerJob
from pytest_redisq.traffic.steps import Desk, Killed, Steps, consume, produce

#: How long workers that were told to stop may take, and again after their connections were cut, in seconds.
GRACE_SECONDS = 2.0


class Crash(NamedTuple):
    """A worker that ended by an error which is neither the network's nor the server's."""

    name: str
    words: str


def each_once(crashes: Iterable[Crash]) -> str:
    r"""What went wrong, each error once, with all whom it met.

    >>> each_once([Crash("one", "a bug\n"), Crash("two", "another\n"), Crash("three", "a bug\n")])
    'one, three: a bug\ntwo: another'
    """
    names = defaultdict[str, list[str]](list)
    for crash in crashes:
        names[crash.words.rstrip()].append(crash.name)
    return "\n".join(f"{', '.join(who)}: {words}" for words, who in names.items())


class Crew(Protocol):
    """Some workers of one kind. Slots are those of their jobs. Only the conductor's thread calls these."""

    def hire(self, job: Job) -> None:
        """Start a worker, which gets itself ready and then waits for `go` (unless that has been said already)."""

    def go(self) -> None: ...

    def tend(self) -> None:
        """Called every few milliseconds."""

    def stop(self, slot: int) -> None:
        """Have a worker end after the call that it is in, cutting short a `get` that waits if the queue can do that."""

    def kill(self, slot: int) -> None:
        """Have a worker end as by SIGKILL."""

    def crashes(self) -> list[Crash]: ...

    def close(self) -> list[str]:
        """Have nothing left of the crew; the names of workers that could not be ended."""


class _Member:
    """A worker in this process."""

    def __init__(self, job: Job, board: Board, recorder: Recorder) -> None:
        self.job = job
        self.slot = board.slot(job.slot)
        self.gate = Gate()
        self.end: End | None = None
        self.desk = Desk(slot=self.slot, recording=recorder, die=self.die)

    def die(self) -> None:
        self.cut()
        raise Killed

    def cut(self) -> None:
        self.desk.dead = True
        self.gate.close()
        if self.end is not None:
            self.end.kill()

    def steps(self, end: End) -> Steps:
        self.desk.started_ns = time.monotonic_ns()
        return steps_of(self.job, self.desk, end)

    def open(self, source: Source, *, is_async: bool) -> End:
        self.end = End(source, self.job, is_async=is_async, gate=self.gate)
        return self.end


def steps_of(job: Job, desk: Desk, end: End) -> Steps:
    match job:
        case ProducerJob():
            return produce(job, desk)
        case ConsumerJob():
            return consume(job, desk, acknowledges=end.acknowledges, runs_dry=end.runs_dry)


def drive(steps: Steps, end: End) -> None:
    """Do what `steps` yields, upon a sync end."""
    reply: Any = None
    error: Exception | None = None
    while True:
        try:
            do = steps.send(reply) if error is None else steps.throw(error)
        except StopIteration:
            return
        reply, error = None, None
        try:
            match do.verb:
                case "put":
                    reply = end.put(do.value)
                case "get":
                    reply = end.get(do.value)
                case "ack":
                    reply = end.ack(do.value)
                case "wait":
                    time.sleep(do.value)
        except Exception as raised:
            error = raised


async def drive_async(steps: Steps, end: End) -> None:
    reply: Any = None
    error: Exception | None = None
    while True:
        try:
            do = steps.send(reply) if error is None else steps.throw(error)
        except StopIteration:
            return
        reply, error = None, None
        try:
            match do.verb:
                case "put":
                    reply = await end.put_async(do.value)
                case "get":
                    reply = await end.get_async(do.value)
                case "ack":
                    reply = await end.ack_async(do.value)
                case "wait":
                    await asyncio.sleep(do.value)
        except Exception as raised:
            error = raised


class ThreadCrew:
    """A thread for each worker."""

    def __init__(self, source: Source, board: Board, recorder: Recorder) -> None:
        self._source = source
        self._board = board
        self._recorder = recorder
        self._go = threading.Event()
        self._members: dict[int, tuple[_Member, threading.Thread]] = {}
        self._crashes: list[Crash] = []

    def hire(self, job: Job) -> None:
        member = _Member(job, self._board, self._recorder)
        thread = threading.Thread(target=self._live, args=(member,), name=job.name, daemon=True)
        self._members[job.slot] = member, thread
        thread.start()

    def go(self) -> None:
        self._go.set()

    def tend(self) -> None:
        """Threads need none."""

    def stop(self, slot: int) -> None:
        member, _ = self._members[slot]
        member.desk.stopping = True
        if member.end is not None and isinstance(member.job, ConsumerJob):
            member.end.stop()

    def kill(self, slot: int) -> None:
        self._members[slot][0].cut()

    def crashes(self) -> list[Crash]:
        return list(self._crashes)

    def close(self) -> list[str]:
        for slot in self._living():
            with suppress(Exception):
                self.stop(slot)
        self._go.set()
        self._join(GRACE_SECONDS)
        for slot in self._living():
            self.kill(slot)
        self._join(GRACE_SECONDS)
        for slot in self._living():
            # It waits for something other than the server. This ends it as soon as it executes Python again.
            ident = self._members[slot][1].ident or 0
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Killed))
        self._join(GRACE_SECONDS)
        return [self._members[slot][0].job.name for slot in self._living()]

    def _living(self) -> list[int]:
        return [slot for slot, (_, thread) in self._members.items() if thread.is_alive()]

    def _join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for _, thread in self._members.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _live(self, member: _Member) -> None:
        try:
            end = member.open(self._source, is_async=False)
            try:
                if isinstance(member.job, ConsumerJob):
                    end.subscribe()
                member.slot.enter(State.READY)
                self._go.wait()
                drive(member.steps(end), end)
            finally:
                end.close()
        except Killed:
            pass
        except BaseException:  # SystemExit, too: nobody else would miss this worker
            if not member.desk.dead:
                self._crashes.append(Crash(member.job.name, traceback.format_exc()))
        finally:
            member.slot.enter(State.ENDED)


class TaskCrew:
    """A task for each worker, all in one loop, in a thread of its own."""

    def __init__(self, source: Source, board: Board, recorder: Recorder) -> None:
        self._source = source
        self._board = board
        self._recorder = recorder
        self._loop = asyncio.new_event_loop()
        self._go = asyncio.Event()
        self._members: dict[int, _Member] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._crashes: list[Crash] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="redisq-tasks", daemon=True)
        self._thread.start()

    def hire(self, job: Job) -> None:
        member = self._members[job.slot] = _Member(job, self._board, self._recorder)
        self._in_loop(self._start(member))

    def go(self) -> None:
        self._loop.call_soon_threadsafe(self._go.set)

    def tend(self) -> None:
        """The loop tends them."""

    def stop(self, slot: int) -> None:
        member = self._members[slot]
        member.desk.stopping = True
        if isinstance(member.job, ConsumerJob):
            self._in_loop(self._stop(member))

    def kill(self, slot: int) -> None:
        self._loop.call_soon_threadsafe(self._members[slot].cut)

    def crashes(self) -> list[Crash]:
        return list(self._crashes)

    def close(self) -> list[str]:
        if self._loop.is_closed():
            return []
        with suppress(TimeoutError):
            self._in_loop(self._end_all(), 4 * GRACE_SECONDS)
            self._in_loop(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GRACE_SECONDS)
        if self._thread.is_alive():
            return [member.job.name for member in self._members.values() if member.slot.state is not State.ENDED]
        self._loop.close()
        return []

    def _in_loop(self, coroutine: Coroutine[Any, Any, None], seconds: float = GRACE_SECONDS) -> None:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise

    async def _start(self, member: _Member) -> None:
        self._tasks[member.job.slot] = asyncio.create_task(self._live(member), name=member.job.name)

    async def _stop(self, member: _Member) -> None:
        if member.end is not None:
            await awaited(member.end.stop())

    async def _end_all(self) -> None:
        for member in self._members.values():
            member.desk.stopping = True
            if member.slot.state is not State.ENDED and isinstance(member.job, ConsumerJob):
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

    async def _live(self, member: _Member) -> None:
        try:
            end = member.open(self._source, is_async=True)
            try:
                if isinstance(member.job, ConsumerJob):
                    await awaited(end.subscribe())
                member.slot.enter(State.READY)
                await self._go.wait()
                await drive_async(member.steps(end), end)
            finally:
                await end.close_async()
        except Killed:
            pass
        except BaseException:  # SystemExit, which would end the loop; and a cancellation that is not ours
            if not member.desk.dead:
                self._crashes.append(Crash(member.job.name, traceback.format_exc()))
        finally:
            member.slot.enter(State.ENDED)
