"""The journal of a file that drains append to: which bytes of the file a killed drain wrote, and for which elements.

`FILE.redisq-drain` is created before the first chunk, and removed when each drain that used it is finished. Each chunk
is announced there before it is written: its position, size and checksum, the last bytes of each of its pages, and how
many elements its claim has left after it. From that, the next drain of any list decides:

- A complete chunk stays in the file. The next drain of *that* list first removes its elements from the server, if the
  killed drain had not done so.
- An incomplete chunk is removed from the file, page by page, in the order in which a kernel writes pages, as far as its
  bytes are proven to be the killed drain's. All other bytes stay.

The journal does not depend on a host name, a path or an inode. It can be moved together with its file.
"""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from pytest_redisq.errors import DrainHeldError, RedisqError
from pytest_redisq.queues.framing import checksum

SUFFIX = ".redisq-drain"

#: If a process is killed during a write, the kernel stops between two pages.
PAGE_BYTES = 4096

#: Bytes noted from the end of each page.
_MARK_BYTES = 8

#: Bytes of the journal after which it is rewritten without the committed chunks.
_LONGEST = 2**20

_log = logging.getLogger("pytest_redisq")
_datasync = getattr(os, "fdatasync", os.fsync)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A chunk in the file.

    * `claim`: the claim that its elements are from.
    * `elements`: how many; `left`: how many the claim has after them.
    * `at`, `size`: its position and length in the file, in bytes.
    * `checksum`: the CRC-32 of these bytes.
    * `marks`: the last bytes of each page (see `marks`).
    """

    claim: str
    elements: int
    left: int
    at: int
    size: int
    checksum: int
    marks: str


class DrainJournal:
    """The journal of the file at `target`, which the caller has locked.

    `begin` creates the journal. `end` removes it if all claims are finished. Raises DrainHeldError if a drain on
    another host may still be writing: file locks may not reach other hosts.
    """

    def __init__(self, target: Path, file: FileIO, *, lease_seconds: float, take_over: bool) -> None:
        self._target = target
        self._file = file
        self._path = target.with_name(target.name + SUFFIX)
        self._out: FileIO | None = None
        #: Identifies this file in the notes on the servers.
        self.file_id: str = secrets.token_hex(8)
        self._claims: dict[str, str] = {}  # unfinished claims: the name, and its list and server
        self._chunks: list[Chunk] = []
        self._safe: dict[str, int] = {}  # by claim: the elements not yet safe on the disk
        self._committed: dict[str, int] = {}
        self._moving: dict[str, Any] | None = None
        self._writer: dict[str, Any] | None = None
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return
        self._load(text)
        if not take_over:
            self._check_writer(lease_seconds)

    @property
    def unfinished(self) -> dict[str, str]:
        """The unfinished claims of which this file has a part: the name, and its list and server."""
        return dict(self._claims)

    def recover(self) -> None:
        """Remove the incomplete chunk of a killed drain. All other bytes stay.

        Raises RedisqError if that cannot be done safely. Then nothing is changed.
        """
        self._finish_move()
        loose = [chunk for chunk in self._chunks if chunk.left < self._safe.get(chunk.claim, chunk.left + 1)]
        torn = [chunk for chunk in loose if not self._is_whole(chunk)]
        whole_to = max((chunk.at + chunk.size for chunk in self._chunks if chunk not in torn), default=0)
        for chunk in torn:
            if whole_to <= chunk.at < self._size():
                self._cut(chunk)
                break
        self._chunks = [chunk for chunk in self._chunks if chunk not in torn]

    def known_whole(self) -> int:
        """The position up to which the file is known to contain complete chunks; 0: nothing is known."""
        ends = [chunk.at + chunk.size for chunk in self._chunks[-1:] if self._is_whole(chunk)]
        return max(ends, default=0)

    def left(self, claim: str, length: int) -> int:
        """How many of the last `length` elements of a claim are not in the file yet."""
        length = min(length, self._committed.get(claim, length))  # fewer, if the server has lost its last writes
        for chunk in sorted((chunk for chunk in self._chunks if chunk.claim == claim), key=lambda chunk: -chunk.left):
            if chunk.left < length <= chunk.left + chunk.elements and self._is_whole(chunk):
                length = chunk.left
        return length

    def begin(self) -> None:
        """Create the journal, with this process as the writer. Raises RedisqError if the folder is not writable."""
        self._writer = {"host": socket.gethostname(), "process": os.getpid(), "boot": _boot()}
        try:
            self._rewrite()
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise RedisqError(
                f"cannot write {self._path}: {error.strerror}. A drain needs this journal to be resumable.\n"
                "What to do: choose a file in a writable folder."
            ) from error

    def claim(self, name: str, of: str) -> None:
        """Announce that elements of the claim `name` will be written. `of`: its list and server, for messages."""
        self._claims[name] = of
        self._add({"claim": name, "of": of})

    def chunk(self, chunk: Chunk) -> None:
        """Announce a chunk before it is written."""
        self._chunks.append(chunk)
        self._add({"chunk": asdict(chunk)})

    def forget(self, chunks: list[Chunk]) -> None:
        """Forget chunks that are not in the file, or may not be on the disk."""
        self._chunks = [chunk for chunk in self._chunks if chunk not in chunks]
        self._rewrite()

    def sync(self) -> None:
        """Sync the journal to the disk. Call it before syncing the file.

        Raises DrainHeldError if another drain has taken the file over.
        """
        out = self._opened()
        try:
            ours = os.stat(self._path).st_ino == os.fstat(out.fileno()).st_ino
        except FileNotFoundError:
            ours = False
        if not ours:
            raise DrainHeldError(
                f"another drain has taken {self._target} over, or {self._path.name} was removed during the drain.\n"
                "What to do: let only one drain at a time write to a file, and run this one again."
            )
        self._needed()
        if out.tell() > _LONGEST:
            self._rewrite()
        else:
            _datasync(out.fileno())

    def safe(self, claim: str, left: int) -> None:
        """Note that all elements of the claim except `left` are safe on the disk. Call it before the commit."""
        self._safe[claim] = left
        self._add({"safe": claim, "left": left})

    def committed(self, claim: str, left: int) -> None:
        """Note that the server has removed all elements of the claim except `left`. Their chunks may be forgotten."""
        self._committed[claim] = left

    def finish(self, claim: str) -> None:
        """Note that the server has no more elements of the claim."""
        self._drop(claim)
        self._add({"finished": claim})

    def end(self) -> None:
        """Note that this process writes no more. Removes the journal if all claims are finished."""
        if self._out is None:
            return
        self._writer = None
        with suppress(OSError):  # the old journal is still right: only its writer seems to have been killed
            if self._claims:
                self._rewrite()
            else:
                os.unlink(self._path)
        self._out.close()

    def _load(self, text: bytes) -> None:
        """Read the complete lines. A killed process may have left the last line incomplete."""
        head, *lines = text.split(b"\n")[:-1] or [b""]
        first = _parsed(head)
        if "redisq-drain" not in first:
            raise RedisqError(
                f"{self._path} is not the journal of a drain, but a drain to {self._target.name} needs this name.\n"
                "What to do: move it away, or drain into another file."
            )
        self.file_id, self._writer = first["redisq-drain"], first["writer"]
        for line in map(_parsed, lines):
            match line:
                case {"claim": name, "of": of}:
                    self._claims[name] = of
                case {"chunk": chunk}:
                    self._chunks.append(Chunk(**chunk))
                case {"safe": name, "left": left}:
                    self._safe[name] = left
                case {"committed": name, "left": left}:
                    self._committed[name] = left
                case {"finished": name}:
                    self._drop(name)
                case {"move": move}:
                    self._moving = move

    def _drop(self, claim: str) -> None:
        self._claims.pop(claim, None)
        self._chunks = [chunk for chunk in self._chunks if chunk.claim != claim]
        self._safe.pop(claim, None)
        self._committed.pop(claim, None)

    def _check_writer(self, lease_seconds: float) -> None:
        if self._writer is None or self._writer["boot"] == _boot():
            return
        silent = time.time() - self._path.stat().st_mtime
        if silent < lease_seconds:
            at = time.strftime("%H:%M:%S", time.localtime(time.time() + lease_seconds - silent))
            raise DrainHeldError(
                f"a drain on {self._writer['host']} (process {self._writer['process']}) wrote to {self._target} "
                f"{silent:.0f} s ago and may still run: file locks may not reach other hosts.\n"
                f"What to do: wait for its end; if it was killed, run this again after {at}, or now with --take-over."
            )

    def _is_whole(self, chunk: Chunk) -> bool:
        if chunk.at + chunk.size > self._size():
            return False
        found, at, end = 0, chunk.at, chunk.at + chunk.size
        while at < end:
            data = os.pread(self._file.fileno(), min(2**20, end - at), at)
            found, at = checksum(data, found), at + len(data)
        return found == chunk.checksum

    def _cut(self, chunk: Chunk) -> None:
        """Remove the pages of an incomplete chunk. Bytes that another program wrote behind them move forward."""
        size, proven = self._size(), self._proven(chunk)
        if proven == chunk.at:
            return
        if proven < size:
            foreign = os.pread(self._file.fileno(), size - proven, proven)
            _log.warning(
                f"{self._target}: another program wrote {len(foreign):,} bytes behind the incomplete chunk of a killed "
                f"drain. They are kept, and now begin at byte {chunk.at:,}."
            )
            self._moving = {"to": chunk.at, "size": size, "data": base64.b64encode(foreign).decode()}
            self._rewrite()
            self._finish_move()
        else:
            self._file.truncate(chunk.at)

    def _proven(self, chunk: Chunk) -> int:
        """The position up to which the file contains the chunk's pages, from the chunk's start on."""
        marks, proven, size = base64.b64decode(chunk.marks), chunk.at, self._size()
        ends = page_ends(chunk.at, chunk.size)
        for number, end in enumerate(ends):
            mark = marks[number :: len(ends)][-end:]
            if chunk.at + end > size or os.pread(self._file.fileno(), len(mark), chunk.at + end - len(mark)) != mark:
                break
            proven = chunk.at + end
        return proven

    def _finish_move(self) -> None:
        """Move another program's bytes to the position of the removed chunk. An interrupted move may be repeated."""
        if self._moving is None:
            return
        to, size, data = self._moving["to"], self._moving["size"], base64.b64decode(self._moving["data"])
        moved = to + len(data)
        if self._size() != moved or os.pread(self._file.fileno(), len(data), to) != data:
            with FileIO(self._target, "r+") as file:
                if self._size() != size:
                    raise RedisqError(
                        f"{self._target} was written to while a drain repaired it. {self._path.name} has the "
                        f"{len(data):,} bytes that belong at byte {to:,}. Nothing was changed.\n"
                        "What to do: drain into another file."
                    )
                os.pwrite(file.fileno(), data, to)
                file.truncate(moved)
        os.fsync(self._file.fileno())
        self._moving = None

    def _rewrite(self) -> None:
        """Rewrite the journal without the committed chunks, and sync it to the disk."""
        lines: list[dict[str, Any]] = [{"redisq-drain": self.file_id, "writer": self._writer}]
        lines += [{"claim": name, "of": of} for name, of in self._claims.items()]
        lines += [{"chunk": asdict(chunk)} for chunk in self._needed()]
        lines += [{"safe": name, "left": left} for name, left in self._safe.items()]
        lines += [{"committed": name, "left": left} for name, left in self._committed.items()]
        lines += [{"move": self._moving}] * bool(self._moving)
        new = self._path.with_name(self._path.name + ".new")
        out = FileIO(new, "w")
        try:
            _write(out, *lines)
            _datasync(out.fileno())
            os.replace(new, self._path)
        except BaseException:
            out.close()
            raise
        if self._out is not None:
            self._out.close()
        self._out = out
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            _datasync(folder)
        finally:
            os.close(folder)

    def _needed(self) -> list[Chunk]:
        self._chunks = [
            chunk for chunk in self._chunks if chunk.left < self._committed.get(chunk.claim, chunk.left + 1)
        ]
        return self._chunks

    def _add(self, line: dict[str, Any]) -> None:
        out = self._opened()
        at = out.tell()
        try:
            _write(out, line)
        except OSError:
            with suppress(OSError):
                out.truncate(at)
                out.seek(at)
            raise

    def _opened(self) -> FileIO:
        assert self._out is not None, "begin() comes first"
        return self._out

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size


def page_ends(at: int, size: int) -> range:
    """The ends of the file's pages within a chunk of `size` bytes at `at`, relative to the chunk's start.

    >>> list(page_ends(4000, 5000))
    [96, 4192]
    """
    return range(-at % PAGE_BYTES or PAGE_BYTES, size + 1, PAGE_BYTES)


def marks(data: bytes, at: int) -> str:
    """The last `_MARK_BYTES` bytes of each page of a chunk that begins at `at`, in base64.

    They are ordered by their place in the page: first the first of these bytes of each page, then the second ones …
    """
    ends = page_ends(at, len(data))
    if not ends:
        return ""
    stripes = []
    for back in range(min(_MARK_BYTES, PAGE_BYTES), 0, -1):
        first = ends[0] - back
        lead = b"" if first >= 0 else b"\0"  # the chunk may begin within these bytes of its first page
        stripes.append((lead + data[first if first >= 0 else first + PAGE_BYTES :: PAGE_BYTES])[: len(ends)])
    return base64.b64encode(b"".join(stripes)).decode()


def _write(out: FileIO, *lines: dict[str, Any]) -> None:
    view = memoryview(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    while view:
        view = view[out.write(view) :]


def _parsed(line: bytes) -> dict[str, Any]:
    """A line of a journal as a dict; empty if it is not one."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _boot() -> str:
    """An id that is the same for all processes that share this kernel's file locks."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
