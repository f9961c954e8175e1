"""Writes chunks to a drain's file in threads beside the reader, and tells what is safe on the disk."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import FileIO
from typing import NamedTuple

from pytest_redisq.queues.drain_journal import Chunk, DrainJournal, marks
from pytest_redisq.queues.framing import Compress, checksum

#: So many jobs may be under way while the next chunk is read: as much as is done while the disk is waited for. A chunk
#: has 1 MiB at most.
_UNDER_WAY = 12


class Part(NamedTuple):
    """`elements` of a claim, which has `left` after them."""

    claim: str
    elements: int
    left: int


class _Compressed(NamedTuple):
    data: bytes
    checksum: int


@dataclass(slots=True, kw_only=True)
class Pen:
    """Writes to a file at its end.

    Chunks go down a line of threads, which the compressors and the disk let run beside us: two compress, one writes,
    and waits for the disk after `sync_bytes` of elements or `sync_seconds`. `safe` tells of what has come to the end of
    the line.
    """

    file: FileIO
    journal: DrainJournal
    compress: Compress
    press: Executor
    disk: Executor
    sync_bytes: int
    sync_seconds: float
    _line: deque[Future[Part | None]] = field(default_factory=deque, init=False)
    _synced: float = field(default_factory=time.monotonic, init=False)
    _bytes: int = field(default=0, init=False)  # of elements, since the last sync was requested
    # Used only by the disk's thread:
    _unsynced: list[Chunk] = field(default_factory=list, init=False)  # complete in the file, and not synced
    _broken: bool = field(default=False, init=False)

    def length(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def write(self, part: Part, data: bytes) -> None:
        """Send these elements down the line."""
        compressed = self.press.submit(self._pressed, part.elements, data)
        self._line.append(self.disk.submit(self._put, part, compressed))
        self._bytes += len(data)
        if self._bytes >= self.sync_bytes or time.monotonic() - self._synced >= self.sync_seconds:
            self.sync()

    def sync(self) -> None:
        """Have on the disk all that was sent so far."""
        self._line.append(self.disk.submit(self._wait_for_the_disk))
        self._synced, self._bytes = time.monotonic(), 0

    def safe(self, *, may_be_under_way: int = _UNDER_WAY) -> Iterator[Part]:
        """What has come to be on the disk, in order. Waits while more than so many jobs are under way.

        OSError: there is no room, say: nothing that was sent after that is written.
        """
        while self._line and (len(self._line) > may_be_under_way or self._line[0].done()):
            safe = self._line.popleft().result()
            if safe is not None:
                yield safe

    def end(self) -> Iterator[Part]:
        """Have on the disk all that was sent, and tell of it. OSError as `safe`."""
        self.sync()
        yield from self.safe(may_be_under_way=0)

    def save(self) -> Iterator[Part]:
        """`end` after an error, whatever else goes wrong: what could be written whole."""
        while self._line:
            with suppress(OSError):
                yield from self.safe(may_be_under_way=0)
        with suppress(OSError):
            yield from self.end()

    def stop(self) -> None:
        """Write no more of what was sent."""
        self._broken = True

    def _pressed(self, elements: int, data: bytes) -> _Compressed:
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
        if at != chunk.at:  # another program has written there since
            chunk = replace(chunk, at=at, marks=marks(data, at))
            self.journal.chunk(chunk)
        self._unsynced.append(chunk)
        self._broken = False

    def _append(self, data: bytes) -> int:
        """Write all of `data`, or nothing; where it begins."""
        view, written, start = memoryview(data), 0, 0
        try:
            while written < len(data):
                count = self.file.write(view[written:])
                place = self.file.tell() - count
                start = start if written else place
                written += count
                if place + count != start + written:
                    raise OSError(errno.EBUSY, "another program wrote into the midst of a drain's chunk")
        except OSError:
            if written and self.length() == start + written:
                self.file.truncate(start)
            raise
        return start

    def _wait_for_the_disk(self) -> Part | None:
        if not self._unsynced:
            return None
        # Forgotten first: what a disk has once failed to take, it may say to have taken when asked again.
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
        """Remove chunks that the disk did not take, which the page cache may still show as if it had."""
        for chunk in reversed(chunks):
            if self.length() != chunk.at + chunk.size:
                break
            self.file.truncate(chunk.at)
        self.journal.forget(chunks)
