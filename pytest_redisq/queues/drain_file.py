"""Drain a list straight into a file, plain or compressed, with memory flat; cut off at any moment, it goes on where
it was.

Chunk by chunk is announced in a journal beside the file, written to the file's end, and waited for until the disk has
it; then the server removes its elements. So what a drain that died had written is known to the next one: the elements
of whole chunks are removed from the server then, and the part of a chunk that was cut short is removed from the file.
Each element is in the file once.
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
from pytest_redisq.queues.connection import QueueConnection, place_of, recommend_hiredis
from pytest_redisq.queues.drain_journal import DrainJournal
from pytest_redisq.queues.drain_pen import Part, Pen
from pytest_redisq.queues.draining import Claim, Drainer, UnfinishedDrain, noted
from pytest_redisq.queues.framing import Compress, Framing, compressor, framer, last_byte
from pytest_redisq.queues.read_ahead import ReadAhead
from pytest_redisq.queues.steps import command, run

#: So many bytes of elements are written before all is put on the disk and taken from the list, or as many as this takes
#: seconds: waiting for a disk costs more than all else, and a drainer that dies has so much to write again.
SYNC_BYTES, SYNC_SECONDS = 16 * 2**20, 1.0

#: How long a server that did not answer is waited for from then on, in seconds.
GRACE_SECONDS = 1.0

_log = logging.getLogger("pytest_redisq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What `drain_to_file` did: elements written; the file's length before and after, in bytes.

    `held`: what other drains have claimed of the same list and not finished. Where it is not empty, that much of the
    list is in no file yet, or in another one.
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
    """Drain the list `key` and append its elements to the file at `path`, one line each; `.gz` and `.zst` are
    compressed.

    Guarantee: each element is written once, also if this process, the connection or the server dies at any moment and
    the same call is made again (a server that dies must have kept its data). Several lists, of any servers, may be
    drained into one file in turn. No byte is removed that a drain did not write. Until each of them is finished,
    `FILE.redisq-drain` lies beside the file: the journal, which tells what a killed drain wrote. Where the journal or
    the file is gone by then, or the list is drained into another file: at least once; the last second's elements,
    16 MiB or so at most, may be in both files.

    `framing`: "lines" writes each element as it is and a newline, and refuses an element that has a newline in it
    (ValueError, with nothing of its chunk written or removed); "json" writes each as a JSON string, or as `{"base64":
    "…"}` where it is not UTF-8. `take_over`: every other drain of this list, and to this file, is dead, so its lease
    need not be waited for; if it is not, elements come twice. `progress(done, total)`, in elements, is called whenever
    more is safe on disk and gone from the list: after each 16 MiB, or each second.

    DrainHeldError: another drain writes to this file, or may do so. RedisqError: an extra is missing; the folder takes
    no journal; the file ends within a gzip member or zstd frame that is not a drain's. OSError: the disk is full, say:
    the list keeps the rest.
    """
    recommend_hiredis()
    encode, compress = framer(framing), compressor(Path(path))
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise RedisqError(f"{path} is no regular file, so a drain could not go on there after an interruption.")
    drainer = Drainer(key, chunk=chunk, lease_seconds=lease_seconds)
    with contextlib.closing(QueueConnection(client, grace_seconds=GRACE_SECONDS)) as wire:
        try:
            with _locked(target) as file:
                journal = DrainJournal(target, file, lease_seconds=lease_seconds, take_over=take_over)
                session = _DrainSession(drainer, wire, journal, target, f"{key!r} at {place_of(client)}")
                with session.pen(file, compress) as pen:
                    return session.drain(pen, encode, progress, take_over=take_over)
        except DrainHeldError as error:
            error.held = run(drainer.unfinished(), wire.call)
            raise


class _DrainSession:
    """One drain of one list to one file."""

    def __init__(self, drainer: Drainer, wire: QueueConnection, journal: DrainJournal, target: Path, of: str) -> None:
        self._drainer = drainer
        self._wire = wire
        self._journal = journal
        self._target = target
        self._of = of
        self._done = 0

    @contextlib.contextmanager
    def pen(self, file: FileIO, compress: Compress) -> Iterator[Pen]:
        """Put the file in order, and write at its end from now on."""
        self._journal.recover()
        end = self._last_byte(file)
        self._journal.begin()
        try:
            if end not in (b"", b"\n"):
                file.write(compress(1, b"\n"))
            if self._journal.unfinished:
                os.fsync(file.fileno())  # what a killed drain wrote there is going to be taken for safe
            with (
                ThreadPoolExecutor(2, "redisq-compress") as press,
                ThreadPoolExecutor(1, "redisq-disk") as disk,
            ):
                yield Pen(
                    file=file,
                    journal=self._journal,
                    compress=compress,
                    press=press,
                    disk=disk,
                    sync_bytes=SYNC_BYTES,
                    sync_seconds=SYNC_SECONDS,
                )
        finally:
            self._journal.end()

    def drain(
        self,
        pen: Pen,
        encode: Callable[[list[bytes]], bytes],
        progress: Callable[[int, int], object],
        *,
        take_over: bool,
    ) -> Drained:
        """Write what other drains left, as far as they are dead, and then the list."""
        before = pen.length()
        try:
            for claim in self._claims(take_over=take_over):
                total = self._done + claim.length + int(self._wire.call(command("LLEN", self._drainer.key)))
                for elements in self._write_all(ReadAhead(self._drainer, claim, self._wire), claim, pen, encode):
                    self._done += elements
                    progress(self._done, max(self._done, total))
                self._journal.finish(claim.name)
            held = run(self._drainer.unfinished(), self._wire.call)
        finally:
            self._wire.hurry()
            with contextlib.suppress(RedisError):  # then the lease runs out by itself
                run(self._drainer.release(), self._wire.call)
        self._forget_finished(held)
        return Drained(elements=self._done, bytes_before=before, bytes_after=pen.length(), held=held)

    def _claims(self, *, take_over: bool) -> Iterator[Claim]:
        for name, state in run(self._drainer.left_behind(), self._wire.call).items():
            # Ours: it was written to this file, whose lock we have, so that its drain is dead.
            ours = noted(state).get("file") == self._journal.file_id
            claim = run(self._drainer.adopt(name, state, owner_is_dead=ours or take_over), self._wire.call)
            if claim is not None:
                self._journal.claim(name, self._of)
                left = self._journal.left(name, claim.length)
                run(self._drainer.commit(claim, claim.length - left, self._note()), self._wire.call)
                yield claim
        name = run(self._drainer.new_name(), self._wire.call)
        self._journal.claim(name, self._of)
        claim = run(self._drainer.claim(self._note(), name=name), self._wire.call)
        if claim is not None:
            yield claim

    def _write_all(
        self, chunks: ReadAhead, claim: Claim, pen: Pen, encode: Callable[[list[bytes]], bytes]
    ) -> Iterator[int]:
        """Write chunk after chunk; yield how many elements more are safe on disk and gone from the list."""
        left = claim.length
        try:
            while elements := chunks.read():
                left -= len(elements)
                pen.write(Part(claim.name, len(elements), left), encode(elements))
                del elements  # so that we hold no old chunk while the next one comes
                yield from self._settled(chunks, claim, pen.safe())
            yield from self._settled(chunks, claim, pen.end())
        except RedisqError:
            pen.stop()
            raise
        except RedisError:
            raise  # what is written whole is known to the next drain
        except BaseException:
            self._wire.hurry()
            with contextlib.suppress(RedisError):
                for _ in self._settled(chunks, claim, pen.save()):
                    pass
            raise

    def _settled(self, chunks: ReadAhead, claim: Claim, parts: Iterator[Part]) -> Iterator[int]:
        for part in parts:
            chunks.commit(claim.length - part.left, self._note())
            self._journal.committed(part.claim, part.left)
            yield part.elements

    def _forget_finished(self, held: tuple[UnfinishedDrain, ...]) -> None:
        """Claims of this list that its server no longer has are finished, whichever drain did it."""
        for name, of in self._journal.unfinished.items():
            if of == self._of and name not in {each.claim for each in held}:
                self._journal.finish(name)
        for of in sorted(set(self._journal.unfinished.values()) - {self._of}):
            _log.warning(f"{self._target} also has a part of {of}, of which a drain was killed: drain that again, too.")

    def _note(self) -> str:
        """What other drains are to know of this one."""
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
                f"{self._target} cannot be appended to: {error}, and no drain is known to have written its end. What "
                "came behind it could not be read. Nothing was changed.\n"
                "What to do: drain into another file, or move this one away."
            ) from None


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[FileIO]:
    """The file, open at its end, for us alone."""
    while True:
        with FileIO(target, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DrainHeldError(
                    f"another drain is writing to {target}: wait for its end, or give this one another file"
                ) from None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(target), os.fstat(file.fileno())):  # else it was moved away just now
                    yield file
                    return
