"""Drain a list straight into a file, plain or compressed, with memory flat; cut off at any moment, it goes on where
it was.

The file's length is committed together with the list's, in one step on the server. What a drainer that died had
written beyond that is cut off before the next one goes on, so each element is in the file once. Each chunk ends a
gzip member or a zstd frame, so that a file can be cut there and appended to; every tool reads such files as one.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import importlib
import json
import os
import socket
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import redis
from redis.exceptions import RedisError

from pytest_redisq.errors import RedisqError
from pytest_redisq.queues.draining import Claim, Drainer
from pytest_redisq.queues.read_ahead import ReadAhead
from pytest_redisq.queues.steps import command, run
from pytest_redisq.queues.wire import Wire, recommend_hiredis

Framing = Literal["lines", "json"]

#: From a chunk's number of elements and its bytes, what is to be in the file.
Compress = Callable[[int, bytes], bytes]

#: So many jobs may be under way while the next chunk is read: as much as is done while the disk is waited for. A chunk
#: has 1 MiB at most.
_UNDER_WAY = 12

#: So many bytes of elements are written before all is put on the disk and taken from the list, or as many as this takes
#: seconds: waiting for a disk costs more than all else, and a drainer that dies has so much to write again.
SYNC_BYTES, SYNC_SECONDS = 16 * 2**20, 1.0


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


#: The extra "fast": gzip several times as fast as zlib's, and zstd.
_igzip = _optional("isal.igzip_lib")
_zstandard = _optional("zstandard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What `drain_to_file` did: elements written; the file's length before and after, in bytes."""

    elements: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """How far a file holds what has left the list; noted beside the claim. The inode tells it from a successor."""

    host: str
    path: str
    inode: int
    length: int


class _Safe(NamedTuple):
    """So many elements more are on the disk; `note` says, for the claim, how far the file has come by them."""

    elements: int
    note: str


class _Pen:
    """Writes to a file at its end, and knows how far it is whole.

    Chunks go down a line of threads, which the compressors and the disk let run beside us: two compress, one writes,
    and waits for the disk where it is time to. `safe` tells of what has come to the end of the line.
    """

    def __init__(self, target: Path, file: FileIO, compress: Compress, press: Executor, disk: Executor) -> None:
        self._target = target
        self._file = file
        self._compress = compress
        self._press = press
        self._disk = disk
        self._line: deque[Future[_Safe | None]] = deque()
        self._synced = time.monotonic()
        self._bytes = 0  # of elements, since it was last time to wait for the disk
        # Of the disk's thread:
        self._whole = self.length()
        self._elements = 0  # whole in the file, and not on the disk
        self._broken = False

    def length(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def write(self, elements: int, data: bytes) -> None:
        """Send so many elements down the line."""
        compressed = self._press.submit(self._compress, elements, data)
        self._line.append(self._disk.submit(self._put, elements, compressed))
        self._bytes += len(data)
        if self._bytes >= SYNC_BYTES or time.monotonic() - self._synced >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Have on the disk all that was sent so far."""
        self._line.append(self._disk.submit(self._wait_for_the_disk))
        self._synced, self._bytes = time.monotonic(), 0

    def safe(self, *, may_be_under_way: int = _UNDER_WAY) -> Iterator[_Safe]:
        """What has come to be on the disk, in order. Waits while more than so many jobs are under way.

        OSError: there is no room, say: nothing that was sent after that is written.
        """
        while self._line and (len(self._line) > may_be_under_way or self._line[0].done()):
            safe = self._line.popleft().result()
            if safe is not None:
                yield safe

    def end(self) -> Iterator[_Safe]:
        """Have on the disk all that was sent, and tell of it. OSError as `safe`."""
        self.sync()
        yield from self.safe(may_be_under_way=0)

    def save(self) -> Iterator[_Safe]:
        """`end` after an error, whatever else goes wrong: what was not written whole is cut off."""
        while self._line:
            with contextlib.suppress(OSError):
                yield from self.safe(may_be_under_way=0)
        self.cut()
        yield from self.end()

    def cut(self, length: int | None = None) -> None:
        """Shorten the file to `length`, or to where the last chunk ended that was written whole; nothing may be under
        way.
        """
        length = self._whole if length is None else length
        if self.length() > length:
            self._file.truncate(length)
        self._whole = length
        self._broken = False

    def note(self) -> str:
        """How far the file has come, for the claim."""
        inode = os.fstat(self._file.fileno()).st_ino
        return json.dumps(
            asdict(_Written(host=socket.gethostname(), path=str(self._target), inode=inode, length=self._whole))
        )

    def wrote(self, written: _Written) -> bool:
        """Whether `written` is about this very file."""
        here = (socket.gethostname(), str(self._target), os.fstat(self._file.fileno()).st_ino)
        return (written.host, written.path, written.inode) == here

    def _put(self, elements: int, compressed: Future[bytes]) -> None:
        if self._broken:
            return
        self._broken = True
        data = compressed.result()
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._broken = False
        self._whole += len(data)
        self._elements += elements

    def _wait_for_the_disk(self) -> _Safe | None:
        if not self._elements:
            return None
        # Forgotten first: what a disk has once failed to take, it may say to have taken when asked again.
        elements, self._elements = self._elements, 0
        broken, self._broken = self._broken, True
        os.fsync(self._file.fileno())
        self._broken = broken
        return _Safe(elements, self.note())


def drain_to_file(
    client: redis.Redis,
    key: str,
    path: str | os.PathLike[str],
    *,
    framing: Framing = "lines",
    chunk: int = 10_000,
    lease_seconds: float = 60.0,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> Drained:
    """Drain the list `key` and append its elements to the file at `path`, one line each; `.gz` and `.zst` are
    compressed.

    Guarantee: each element is written once, also if this process, the connection or the server dies at any moment and
    the same call is made again on the same machine (a server that dies must have kept its data). Where the file is
    gone, was replaced, or is on another machine by then, at least once: the last second's elements, 16 MiB or so at
    most, may be in both files.

    `framing`: "lines" writes each element as it is and a newline, and refuses an element that has a newline in it
    (ValueError, with nothing of its chunk written or removed); "json" writes each as a JSON string, or as `{"base64":
    "…"}` where it is not UTF-8. `progress(done, total)`, in elements, is called whenever more is safe on disk and gone
    from the list: after each 16 MiB, or each second.

    RedisqError: another drain writes to this file; an extra is missing. OSError: the disk is full, say: the list
    keeps the rest.
    """
    recommend_hiredis()
    encode, compress = _framer(framing), _compressor(Path(path))
    target = Path(path).absolute()
    drainer = Drainer(key, chunk=chunk, lease_seconds=lease_seconds)
    with (
        contextlib.closing(Wire(client)) as wire,
        _locked(target) as file,
        ThreadPoolExecutor(2, "redisq-compress") as press,
        ThreadPoolExecutor(1, "redisq-disk") as disk,
    ):
        pen = _Pen(target, file, compress, press, disk)
        before, done = pen.length(), 0
        try:
            total = run(_total(drainer, key), wire.call)
            for claim in _claims(drainer, wire, pen):
                for elements in _write_all(ReadAhead(drainer, claim, wire), pen, encode):
                    done += elements
                    total = max(total, done)
                    progress(done, total)
        finally:
            with contextlib.suppress(RedisError):
                run(drainer.release(), wire.call)
        return Drained(elements=done, bytes_before=before, bytes_after=pen.length())


def _write_all(chunks: ReadAhead, pen: _Pen, encode: Callable[[list[bytes]], bytes]) -> Iterator[int]:
    """Write chunk after chunk; each time some are safe on disk and gone from the list, how many elements these are."""
    try:
        while elements := chunks.read():
            pen.write(len(elements), encode(elements))
            del elements  # so that we hold no old chunk while the next one comes
            yield from _settled(chunks, pen.safe())
        yield from _settled(chunks, pen.end())
    except (ValueError, OSError):
        for _ in _settled(chunks, pen.save()):
            pass
        raise


def _settled(chunks: ReadAhead, safes: Iterator[_Safe]) -> Iterator[int]:
    for safe in safes:
        chunks.commit(safe.elements, safe.note)
        yield safe.elements


def _claims(drainer: Drainer, wire: Wire, pen: _Pen) -> Iterator[Claim]:
    """What this file's last writer left, then what others left, then the list."""
    for name, state in run(drainer.left_behind(), wire.call).items():
        written = _parsed(state)
        ours = written is not None and pen.wrote(written)
        claim = run(drainer.adopt(name, state, owner_is_dead=ours), wire.call)  # dead: we hold the lock on its file
        if claim is None:
            continue
        if ours and written is not None:
            pen.cut(written.length)
        run(drainer.commit(claim, 0, pen.note()), wire.call)
        yield claim
    claim = run(drainer.claim(pen.note()), wire.call)
    if claim is not None:
        yield claim


def _total(drainer: Drainer, key: str) -> Any:
    left = yield command("LLEN", key)
    for name in (yield from drainer.left_behind()):
        left += yield command("LLEN", drainer.list_of(name))
    return left


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[FileIO]:
    """The file, open at its end, for us alone."""
    with FileIO(target, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RedisqError(
                f"another drain is writing to {target}: wait for its end, or give this one another file"
            ) from None
        yield file


def _parsed(state: str) -> _Written | None:
    return _Written(**json.loads(state)) if state else None


def _framer(framing: Framing) -> Callable[[list[bytes]], bytes]:
    match framing:
        case "lines":
            return _as_lines
        case "json":
            return _as_json
        case _:
            raise ValueError(f'framing={framing!r}: "lines" or "json"')


def _as_lines(elements: list[bytes]) -> bytes:
    if b"\n" in b"".join(elements):  # far cheaper than to count them in what is returned
        found = next(element for element in elements if b"\n" in element)
        raise ValueError(
            f'an element has a newline in it, which framing="lines" cannot keep: {found[:60]!r}; use "json"'
        )
    return b"\n".join([*elements, b""])


def _as_json(elements: list[bytes]) -> bytes:
    """All in one go: a JSON array with newlines for commas and no brackets; JSON strings hold no newlines."""
    array = json.dumps([_json_value(element) for element in elements], ensure_ascii=False, separators=("\n", ": "))
    return array[1:-1].encode() + b"\n"


def _json_value(element: bytes) -> str | dict[str, str]:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(element).decode()}


def _compressor(path: Path) -> Compress:
    """What makes of a chunk, of so many elements, a whole member or frame, by the file's suffix."""
    match path.suffix:
        case ".gz" if _igzip is not None:
            return _by_isal
        case ".gz":
            return lambda _, data: zlib.compress(data, 1, 31)  # 31: a gzip member
        case ".zst" if _zstandard is not None:
            return lambda _, data: bytes(_zstandard.compress(data, 1))
        case ".zst":
            raise RedisqError(
                f"to write {path.name} takes zstandard: pip install 'pytest-redisq[fast]', or name it .gz"
            )
        case _:
            return lambda _, data: data


def _by_isal(elements: int, data: bytes) -> bytes:
    """It looks back no further than some elements, 1 KiB at least: a fifth faster, and as small to two hundredths."""
    window_bits = min(15, max(10, (4 * len(data) // elements).bit_length()))
    return bytes(_igzip.compress(data, 1, _igzip.COMP_GZIP, _igzip.MEM_LEVEL_DEFAULT, window_bits))
