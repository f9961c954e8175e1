"""Where each worker says what it is doing: a few numbers a worker, in memory that survives its death.

One writer to a cell (the worker; for `order` and `held` the runner), and aligned eight-byte stores: no locks.
"""

from __future__ import annotations

import mmap
import os
import time
from enum import IntEnum
from pathlib import Path

from pytest_redisq.endpoint.workload import WorkerState

_CELLS = 8
_STATE, _SINCE_NS, _MESSAGES, _IDLE_NS, _ORDER, _HELD = range(6)


class KillRequest(IntEnum):
    """What the runner wants of a consumer."""

    NONE = 0
    DIE_RECEIVING = 1
    DIE_HOLDING = 2


class WorkerStatus:
    """One worker's cells."""

    __slots__ = ("_base", "_cells")

    def __init__(self, cells: memoryview[int], index: int) -> None:
        self._cells = cells
        self._base = index * _CELLS

    def enter(self, state: WorkerState) -> int:
        """The worker is in `state` from now on; returns now, in ns of the monotonic clock."""
        now = time.monotonic_ns()
        self._cells[self._base + _SINCE_NS] = now
        self._cells[self._base + _STATE] = state
        return now

    def count(self) -> None:
        """One more message was put, or received."""
        self._cells[self._base + _MESSAGES] += 1

    def idle(self, invoked_ns: int) -> None:
        """A get that was invoked then came back with nothing."""
        self._cells[self._base + _IDLE_NS] = invoked_ns

    def request_kill(self, request: KillRequest) -> None:
        self._cells[self._base + _ORDER] = request

    @property
    def kill_request(self) -> KillRequest:
        return KillRequest(self._cells[self._base + _ORDER])

    def hold(self, yes: bool) -> None:
        """Have the consumer ask for no message, or ask again."""
        self._cells[self._base + _HELD] = yes

    @property
    def held(self) -> bool:
        """Whether the consumer is to ask for no message for now."""
        return bool(self._cells[self._base + _HELD])

    @property
    def state(self) -> WorkerState:
        return WorkerState(self._cells[self._base + _STATE])

    @property
    def since_ns(self) -> int:
        return self._cells[self._base + _SINCE_NS]

    @property
    def messages(self) -> int:
        return self._cells[self._base + _MESSAGES]

    @property
    def idle_ns(self) -> int:
        """When the last get that came back with nothing was invoked; 0: never."""
        return self._cells[self._base + _IDLE_NS]


class StatusTable:
    """The slots of all workers: in memory for threads and tasks, in a file for processes."""

    def __init__(self, path: Path | None, workers: int) -> None:
        size = workers * _CELLS * 8
        if path is None:
            self._map: mmap.mmap | None = None
            self._cells = memoryview(bytearray(size)).cast("Q")
            return
        with open(path, "a+b") as file:
            # Not merely made longer: a full disk would end a worker that writes there by SIGBUS, without a word.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            elif os.fstat(file.fileno()).st_size < size:  # macOS
                file.write(bytes(size))
                file.flush()
            self._map = mmap.mmap(file.fileno(), size)
        self._cells = memoryview(self._map).cast("Q")

    def status(self, index: int) -> WorkerStatus:
        return WorkerStatus(self._cells, index)

    def close(self) -> None:
        self._cells.release()
        if self._map is not None:
            self._map.close()
