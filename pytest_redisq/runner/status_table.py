"""Where each worker says what it is doing: a few numbers a worker, in memory that survives its death.

One writer to a cell (the worker; for `order` and `held` the runner), and aligned eight-byte stores: no locks.
"""

from __future__ import annotations

import functools
import mmap
import operator
import os
import time
from collections.abc import Collection, Sequence
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pytest_redisq.endpoint.shared_failure import FailureStreak, failure_way
from pytest_redisq.endpoint.workload import WorkerState
from pytest_redisq.model import Message
from pytest_redisq.resp import Trait

_STATE, _SINCE_NS, _MESSAGES, _IDLE_NS, _ORDER, _HELD, _FAILING_NS, _WAY, _SEEN, _KEPT_BACK, _WORDS = range(11)
#: The words of a worker's last error take the cells from `_WORDS` on.
_WORDS_BYTES = 256
#: After them a cell for each of the first messages that a consumer was handed and has not returned.
_HANDED = _WORDS + _WORDS_BYTES // 8
_HANDED_CELLS, _SEQUENCE_BITS = 16, 40
_CELLS = _HANDED + _HANDED_CELLS


class KillRequest(IntEnum):
    """What the runner wants of a consumer."""

    NONE = 0
    DIE_RECEIVING = 1
    DIE_HOLDING = 2


class HandedMessages(NamedTuple):
    """Messages that the server has handed to a worker, and that its get has not returned: how many, and the first.

    `reads`: the worker reads streams for itself alone, so that no other one may return them.
    """

    number: int
    first: Sequence[Message]
    reads: bool = False


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

    def fail(self, error: Exception, words: str) -> None:
        """An operation has failed. `words`: the error, and where it was raised."""
        base, cells = self._base, self._cells
        text = words.encode()[:_WORDS_BYTES].ljust(_WORDS_BYTES, b"\0")
        cells[base + _WORDS : base + _HANDED] = memoryview(text).cast("Q")
        cells[base + _WAY] = failure_way(f"{type(error).__name__}: {error}")
        if not cells[base + _FAILING_NS]:
            cells[base + _FAILING_NS] = time.monotonic_ns()

    def succeed(self) -> None:
        """An operation has not failed."""
        self._cells[self._base + _FAILING_NS] = 0

    @property
    def failures(self) -> FailureStreak:
        """The failures since the last operation that did not fail."""
        base = self._base
        words = self._cells[base + _WORDS : base + _HANDED].tobytes().rstrip(b"\0").decode(errors="ignore")
        return FailureStreak(self._cells[base + _FAILING_NS], self._cells[base + _WAY], words)

    def note_seen(self, seen: Trait) -> None:
        """Record what the worker's commands have done."""
        self._cells[self._base + _SEEN] = seen

    def note_bound(self) -> None:
        """Record, for all workers, that messages may be removed by a bound."""
        self._cells[-1] = 1

    @property
    def bound(self) -> bool:
        """Whether any worker has recorded that messages may be removed by a bound."""
        return bool(self._cells[-1])

    @property
    def seen(self) -> Trait:
        """What the worker's commands have done."""
        return Trait(self._cells[self._base + _SEEN])

    def note_kept_back(self, messages: Collection[Message]) -> None:
        """Record the messages that the server has handed to the worker, and that its get has not returned so far."""
        base = self._base
        for place, (producer, sequence) in enumerate(islice(messages, _HANDED_CELLS)):
            self._cells[base + _HANDED + place] = producer << _SEQUENCE_BITS | sequence
        self._cells[base + _KEPT_BACK] = len(messages)

    @property
    def kept_back(self) -> HandedMessages:
        """The messages that the server has handed to the worker, and that its get has not returned so far."""
        first, number = self._base + _HANDED, self._cells[self._base + _KEPT_BACK]
        codes = self._cells[first : first + min(number, _HANDED_CELLS)]
        return HandedMessages(
            number, [Message(code >> _SEQUENCE_BITS, code & (1 << _SEQUENCE_BITS) - 1) for code in codes]
        )

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
        size = (workers * _CELLS + 1) * 8  # the last cell is that of all
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

    def seen(self) -> Trait:
        """What the commands of all workers have done."""
        rows = range(len(self._cells) // _CELLS)
        return functools.reduce(operator.or_, (self.status(row).seen for row in rows), Trait.NONE)

    def kept_back(self, *, but_for: Collection[int]) -> list[HandedMessages]:
        """What each worker was handed and has not returned, but for the workers in these slots."""
        rows = range(len(self._cells) // _CELLS)
        return [self.status(row).kept_back for row in rows if row not in but_for]

    def close(self) -> None:
        self._cells.release()
        if self._map is not None:
            self._map.close()
