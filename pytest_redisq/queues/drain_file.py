"""Drains a list into a file, plain or compressed, with constant memory. An interrupted drain can be resumed.

For each chunk:

1. The drain announces it in a journal beside the file.
2. It appends the chunk to the file, and syncs the file to the disk.
3. The server removes the chunk's elements.

If a drain dies, the next one knows from the journal what was written. It removes the elements of complete chunks from
the server, and an incomplete chunk from the file. So each element is in the file once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import redis
from redis.exceptions import RedisError

from pytest_redisq.errors import DrainHeldError, RedisqError
from pytest_redisq.queues.chunk_writer import ChunkWriter, Part
from pytest_redisq.queues.connection import QueueConnection, place_of, recommend_hiredis
from pytest_redisq.queues.drain_journal import DrainJournal
from pytest_redisq.queues.draining import Claim, Drainer, UnfinishedDrain, noted
from pytest_redisq.queues.framing import Compress, Framing, compressor, framer, last_byte
from pytest_redisq.queues.read_ahead import ReadAhead
from pytest_redisq.queues.steps import command, run

#: The file is synced to the disk, and its elements are removed from the list, after so many bytes or seconds. Syncing
#: takes more time than everything else. A drain that dies must write at most so much again.
SYNC_BYTES, SYNC_SECONDS = 16 * 2**20, 1.0

#: Seconds to wait for a reply from a server that did not answer before.
GRACE_SECONDS = 1.0

_log = logging.getLogger("pytest_redisq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """The result of `drain_to_file`.

    * `elements`: elements written.
    * `bytes_before`, `bytes_after`: the file's length before and after, in bytes.
    * `held`: claims that other drains have on the same list. Their elements are in no file yet, or in another one.
    """

    elements: int
    bytes_before: int
    bytes_after: int
    held: tuple[UnfinishedDrain, ...] = ()


def drain_to_file(
    client: redis.Redis,
    key: str,
    path: str | os.PathLike[str],
    *,
    framing: Framing = "lines",
    chunk: int = 10_000,
    lease_seconds: float = 60.0,
    take_over: bool = False,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> Drained:
    """Drain the list `key`: append its elements to the file at `path`, one line each, and remove them from the list.

    * `key`: the list.
    * `path`: the file. `.gz` and `.zst` files are compressed. Several lists, of any servers, may be drained into one
      file, one after the other.
    * `framing`: "lines" (default) writes each element as it is, and a newline. "json" writes each element as a JSON
      string, or as `{"base64": "…"}` if it is not UTF-8.
    * `chunk`: the most elements of a chunk; default 10,000.
    * `lease_seconds`: how long a claim is protected after the last chunk; default 60.
    * `take_over`: do not wait for the leases of other drains of this list or to this file; default False. Set it only
      if those drains are dead: otherwise elements may be written twice.
    * `progress`: called as `progress(done, total)`, in elements, when more elements are safe on the disk and removed
      from the list: after each 16 MiB or each second.

    Raises:

    * `DrainHeldError`: another drain writes to this file, or may still do so.
    * `ValueError`: an element contains a newline, with the framing "lines". Nothing of its chunk is written or removed.
    * `RedisqError`: an extra is missing; the journal cannot be written; the file ends within a gzip member or zstd
      frame that no drain wrote; or the server no longer has what this drain claimed. Then repeat the call.
    * `OSError`: such as a full disk. The list keeps the rest.

    Guarantee: each element is written once, also if the process, the connection or the server dies at any moment and
    the call is then repeated. No byte is removed that a drain did not write. Until the drain is finished, its journal
    `FILE.redisq-drain` is beside the file. If the journal or the file is removed before that, or the list is drained
    into another file, the guarantee is at-least-once: the elements of the last second, about 16 MiB at most, may be in
    both files. It is also at-least-once if a server dies and loses its last writes (AOF with `everysec`, or a failover
    to a replica): elements that were removed by those writes come back, and may be written twice. None is lost that the
    server still has.
    """
    recommend_hiredis()
    encode, compress = framer(framing), compressor(Path(path))
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise RedisqError(f"{path} is not a regular file, so an interrupted drain could not be resumed there.")
    drainer = Drainer(key, chunk=chunk, lease_seconds=lease_seconds)
    with contextlib.closing(QueueConnection(client, grace_seconds=GRACE_SECONDS)) as connection:
        try:
            with _locked(target) as file:
                journal = DrainJournal(target, file, lease_seconds=lease_seconds, take_over=take_over)
                session = _DrainSession(drainer, connection, journal, target, f"{key!r} at {place_of(client)}")
                with session.writer(file, compress) as writer:
                    return session.drain(writer, encode, progress, take_over=take_over)
        except DrainHeldError as error:
            error.held = run(drainer.unfinished(), connection.call)
            raise


class _DrainSession:
    """One drain of one list to one file."""

    def __init__(
        self, drainer: Drainer, connection: QueueConnection, journal: DrainJournal, target: Path, of: str
    ) -> None:
        self._drainer = drainer
        self._connection = connection
        self._journal = journal
        self._target = target
        self._of = of
        self._done = 0

    @contextlib.contextmanager
    def writer(self, file: FileIO, compress: Compress) -> Iterator[ChunkWriter]:
        """Repair the end of the file; yields a writer that appends to it."""
        self._journal.recover()
        end = self._last_byte(file)
        self._journal.begin()
        try:
            if end not in (b"", b"\n"):
                file.write(compress(1, b"\n"))
            if self._journal.unfinished:
                os.fsync(file.fileno())  # complete chunks of a killed drain count as safe from here on
            with (
                ThreadPoolExecutor(2, "redisq-compress") as compress_threads,
                ThreadPoolExecutor(1, "redisq-disk") as disk_thread,
            ):
                yield ChunkWriter(
                    file=file,
                    journal=self._journal,
                    compress=compress,
                    compress_threads=compress_threads,
                    disk_thread=disk_thread,
                    sync_bytes=SYNC_BYTES,
                    sync_seconds=SYNC_SECONDS,
                )
        finally:
            self._journal.end()

    def drain(
        self,
        writer: ChunkWriter,
        encode: Callable[[list[bytes]], bytes],
        progress: Callable[[int, int], object],
        *,
        take_over: bool,
    ) -> Drained:
        """Write the claims of dead drains, and then the list."""
        before = writer.length()
        try:
            for claim in self._claims(take_over=take_over):
                total = self._done + claim.length + int(self._connection.call(command("LLEN", self._drainer.key)))
                for elements in self._write_all(
                    ReadAhead(self._drainer, claim, self._connection), claim, writer, encode
                ):
                    self._done += elements
                    progress(self._done, max(self._done, total))
                self._journal.finish(claim.name)
            held = run(self._drainer.unfinished(), self._connection.call)
        finally:
            self._connection.hurry()
            with contextlib.suppress(RedisError):  # then the lease expires by itself
                run(self._drainer.release(), self._connection.call)
        self._forget_finished(held)
        return Drained(elements=self._done, bytes_before=before, bytes_after=writer.length(), held=held)

    def _claims(self, *, take_over: bool) -> Iterator[Claim]:
        for name, state in run(self._drainer.left_behind(), self._connection.call).items():
            # That drain wrote to this file, whose lock is held here. So it is dead.
            to_this_file = noted(state).get("file") == self._journal.file_id
            claim = run(
                self._drainer.adopt(name, state, owner_is_dead=to_this_file or take_over), self._connection.call
            )
            if claim is not None:
                self._journal.claim(name, self._of)
                left = self._journal.left(name, claim.length)
                run(self._drainer.commit(claim, claim.length - left, self._note()), self._connection.call)
                yield claim
        name = run(self._drainer.new_name(), self._connection.call)
        self._journal.claim(name, self._of)
        claim = run(self._drainer.claim(self._note(), name=name), self._connection.call)
        if claim is not None:
            yield claim

    def _write_all(
        self, chunks: ReadAhead, claim: Claim, writer: ChunkWriter, encode: Callable[[list[bytes]], bytes]
    ) -> Iterator[int]:
        """Write all chunks. Yields numbers of elements when they are safe on the disk and removed from the list."""
        left = claim.length
        try:
            while elements := chunks.read():
                left -= len(elements)
                writer.write(Part(claim.name, len(elements), left), encode(elements))
                del elements  # free the old chunk before the next one arrives
                yield from self._settled(chunks, claim, writer.safe())
            yield from self._settled(chunks, claim, writer.end())
        except RedisqError:
            writer.stop()
            raise
        except RedisError:
            raise  # the next drain finds the complete chunks in the journal
        except BaseException:
            self._connection.hurry()
            with contextlib.suppress(RedisError):
                for _ in self._settled(chunks, claim, writer.save()):
                    pass
            raise

    def _settled(self, chunks: ReadAhead, claim: Claim, parts: Iterator[Part]) -> Iterator[int]:
        for part in parts:
            chunks.commit(claim.length - part.left, self._note())
            self._journal.committed(part.claim, part.left)
            yield part.elements

    def _forget_finished(self, held: tuple[UnfinishedDrain, ...]) -> None:
        """Finish the claims of this list that its server no longer has: another drain has drained them."""
        for name, of in self._journal.unfinished.items():
            if of == self._of and name not in {each.claim for each in held}:
                self._journal.finish(name)
        for of in sorted(set(self._journal.unfinished.values()) - {self._of}):
            _log.warning(
                f"{self._target} also has a part of {of}: a drain of it was killed. Drain that list again, too."
            )

    def _note(self) -> str:
        """The note of this drain for other drains."""
        return json.dumps(
            {
                "file": self._journal.file_id,
                "path": str(self._target),
                "host": socket.gethostname(),
                "process": os.getpid(),
            }
        )

    def _last_byte(self, file: FileIO) -> bytes:
        try:
            return last_byte(file.fileno(), self._target.suffix, self._journal.known_whole())
        except ValueError as error:
            raise RedisqError(
                f"{self._target} cannot be appended to: {error}, and the journal has no drain that wrote its end. "
                "Appended data could not be read. Nothing was changed.\n"
                "What to do: drain into another file, or move this one away."
            ) from None


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[FileIO]:
    """The file, locked and open for appending. Raises DrainHeldError if another drain has locked it."""
    while True:
        with FileIO(target, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DrainHeldError(
                    f"another drain is writing to {target}. What to do: wait for its end, or choose another file."
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(target), os.fstat(file.fileno())):  # not moved away just before the lock
                    yield file
                    return
