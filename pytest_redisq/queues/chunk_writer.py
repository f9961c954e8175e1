"""Writes the chunks of a drain to its file in threads, and reports what is safe on the disk.

Executors and futures hold locks that an interrupt could leave locked for good: see `interrupts.deferred`.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import FileIO
from typing import NamedTuple

from pytest_redisq import interrupts
from pytest_redisq.queues.drain_journal import Chunk, DrainJournal, marks
from pytest_redisq.queues.framing import Compress, checksum

#: The most jobs (writes of at most 1 MiB, and syncs) that are running or queued while the next chunk is read: about as
#: many as are done during one sync.
_QUEUED_JOBS = 12


class Part(NamedTuple):
    """`elements` elements of a claim; the claim has `left` more after them."""

    claim: str
    elements: int
    left: int


class _Compressed(NamedTuple):
    data: bytes
    checksum: int


@dataclass(slots=True, kw_only=True)
class ChunkWriter:
    """Appends chunks to a file: two threads compress them, and one writes them and syncs the file to the disk.

    * `file`, `journal`: the file, and its journal.
    * `compress`: makes a chunk's bytes for the file.
    * `compress_threads`, `disk_thread`: the threads; only one for the disk.
    * `sync_bytes`, `sync_seconds`: the file is synced after so many bytes of elements, or so many seconds.
    """

    file: FileIO
    journal: DrainJournal
    compress: Compress
    compress_threads: Executor
    disk_thread: Executor
    sync_bytes: int
    sync_seconds: float
    _jobs: deque[Future[Part | None]] = field(default_factory=deque, init=False)
    _synced: float = field(default_factory=time.monotonic, init=False)
    _bytes: int = field(default=0, init=False)  # of elements, since the last sync was requested
    # Used only by the disk's thread:
    _unsynced: list[Chunk] = field(default_factory=list, init=False)  # complete in the file, and not synced
    _broken: bool = field(default=False, init=False)

    def length(self) -> int:
        """The file's length, in bytes."""
        return os.fstat(self.file.fileno()).st_size

    @interrupts.deferred()
    def write(self, part: Part, data: bytes) -> None:
        """Queue a chunk for writing. `data`: its elements, encoded."""
        compressed = self.compress_threads.submit(self._compressed, part.elements, data)
        self._jobs.append(self.disk_thread.submit(self._put, part, compressed))
        self._bytes += len(data)
        if self._bytes >= self.sync_bytes or time.monotonic() - self._synced >= self.sync_seconds:
            self.sync()

    @interrupts.deferred()
    def sync(self) -> None:
        """Queue a sync of the chunks queued so far."""
        self._jobs.append(self.disk_thread.submit(self._sync))
        self._synced, self._bytes = time.monotonic(), 0

    def safe(self, *, queued_jobs: int = _QUEUED_JOBS) -> Iterator[Part]:
        """Yield the parts that have become safe on the disk, in order. Waits while more than `queued_jobs` are queued.

        Raises OSError, such as for a full disk. Then no chunk queued later is written.
        """
        while (done := self._done(queued_jobs)) is not None:
            yield from done

    @interrupts.deferred()
    def _done(self, queued_jobs: int) -> Sequence[Part] | None:
        """What the first job has made safe; None if it is not to be waited for. An interrupt waits as long, at most."""
        if not self._jobs or (len(self._jobs) <= queued_jobs and not self._jobs[0].done()):
            return None
        part = self._jobs.popleft().result()
        return () if part is None else (part,)

    def end(self) -> Iterator[Part]:
        """Write and sync all queued chunks; yields the parts that become safe. Raises as `safe`."""
        self.sync()
        yield from self.safe(queued_jobs=0)

    def save(self) -> Iterator[Part]:
        """`end` after an error: yields the parts that could be written and synced. Raises no OSError."""
        while self._jobs:
            with suppress(OSError):
                yield from self.safe(queued_jobs=0)
        with suppress(OSError):
            yield from self.end()

    def stop(self) -> None:
        """Write no more queued chunks."""
        self._broken = True

    def _compressed(self, elements: int, data: bytes) -> _Compressed:
        data = self.compress(elements, data)
        return _Compressed(data, checksum(data, 0))

    def _put(self, part: Part, compressed: Future[_Compressed]) -> None:
        if self._broken:
            return
        self._broken = True
        data, check = compressed.result()
        at = self.length()
        chunk = Chunk(**part._asdict(), at=at, size=len(data), checksum=check, marks=marks(data, at))
        self.journal.chunk(chunk)
        at = self._append(data)
        if at != chunk.at:  # another program has written at the file's end since
            chunk = replace(chunk, at=at, marks=marks(data, at))
            self.journal.chunk(chunk)
        self._unsynced.append(chunk)
        self._broken = False

    def _append(self, data: bytes) -> int:
        """Write all of `data`, or nothing. Returns its position."""
        view, written, start = memoryview(data), 0, 0
        try:
            while written < len(data):
                count = self.file.write(view[written:])
                place = self.file.tell() - count
                start = start if written else place
                written += count
                if place + count != start + written:
                    raise OSError(errno.EBUSY, "another program wrote into the middle of a drain's chunk")
        except OSError:
            if written and self.length() == start + written:
                self.file.truncate(start)
            raise
        return start

    def _sync(self) -> Part | None:
        if not self._unsynced:
            return None
        # Removed before the sync: after a failed fsync, the next fsync may succeed although the data are lost.
        chunks, self._unsynced = self._unsynced, []
        broken, self._broken = self._broken, True
        try:
            self.journal.sync()
            os.fsync(self.file.fileno())
        except OSError:
            self._take_back(chunks)
            raise
        self._broken = broken
        last = chunks[-1]
        self.journal.safe(last.claim, last.left)
        return Part(last.claim, sum(chunk.elements for chunk in chunks), last.left)

    def _take_back(self, chunks: list[Chunk]) -> None:
        """Remove chunks after a failed sync. The page cache may still show them as if they were on the disk."""
        for chunk in reversed(chunks):
            if self.length() != chunk.at + chunk.size:
                break
            self.file.truncate(chunk.at)
        self.journal.forget(chunks)
