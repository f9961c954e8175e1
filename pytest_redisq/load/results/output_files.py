"""The files that a load run writes. They are opened and locked before it begins, so that errors show at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Self

from pytest_redisq.errors import RedisqError

#: So many bytes must be free on the disk of a file when a run begins.
RESERVE_BYTES = 65_536


class FileError(RedisqError):
    """A file cannot be written; the text says which, why, and what to do."""


class OutputFile:
    """A file opened for the time of a run, as a context manager. What it contained stays until `write` replaces it.

    `option` is what asked for it, for messages. A file that did not exist before and got no content is removed. Two
    runs cannot write the same file: the second is refused.

    Raises FileError where it cannot be written.
    """

    def __init__(self, path: Path, option: str) -> None:
        self.path = path
        self._option = option
        self._descriptor = -1
        self._regular = self._made = False

    def __enter__(self) -> Self:
        try:
            self._open()
            self._check()
        except BlockingIOError:
            self.__exit__()
            raise self._refused("another run is writing it") from None
        except OSError as error:
            self.__exit__()
            raise self._refused(_reason(error)) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor < 0:
            return
        if self._made and not os.fstat(self._descriptor).st_size:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1

    def write(self, text: str) -> str:
        """Replace what the file contains. Returns why that failed, in words, or "". On a full disk the old content
        stays.
        """
        data = text.encode()
        try:
            if self._regular:
                self._reserve(0, len(data))
            while data:
                data = data[os.write(self._descriptor, data) :]
            if self._regular:
                os.ftruncate(self._descriptor, len(text.encode()))
        except OSError as error:
            return f"{self._option}: {self.path} could not be written: {_reason(error)}"
        return ""

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO that nothing reads is refused, not waited for
        while True:
            try:
                self._descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                self._made = True
            except FileExistsError:
                self._descriptor = os.open(self.path, flags)
                self._made = False
            self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            os.set_blocking(self._descriptor, True)
            if not self._regular or self._locked():
                return
            os.close(self._descriptor)
            self._descriptor = -1

    def _locked(self) -> bool:
        """Lock it. False if another run has removed it in the meantime."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._made = False  # and is the other run's to remove
            raise
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
                raise
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        return False

    def _check(self) -> None:
        if self._regular:
            size = os.fstat(self._descriptor).st_size
            self._reserve(size, RESERVE_BYTES)
            os.ftruncate(self._descriptor, size)
        else:
            os.write(self._descriptor, b"")

    def _reserve(self, start: int, length: int) -> None:
        """Have the disk space ready. OSError, and the file as it was, if there is not enough."""
        size = os.fstat(self._descriptor).st_size
        try:
            if hasattr(os, "posix_fallocate"):  # macOS has none
                os.posix_fallocate(self._descriptor, start, max(length, 1))
        except OSError as error:
            os.ftruncate(self._descriptor, size)
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
                raise

    def _refused(self, why: str) -> FileError:
        return FileError(
            f"{self._option}: {self.path} cannot be written: {why}.\nWhat to do: give another file. Nothing was run."
        )


def _reason(error: OSError) -> str:
    if error.errno == errno.ENXIO:
        return "it is a FIFO that no process reads"
    return error.strerror or str(error)


#: What Locust adds to the prefix that --csv gives.
CSV_SUFFIXES = ("_stats.csv", "_stats_history.csv", "_failures.csv", "_exceptions.csv")


def locust_files(csv_prefix: str | None, html_file: str | None) -> list[OutputFile]:
    """The files that Locust writes. (The name of an HTML file with {u}, {r} or {t} is known at the end only.)"""
    files = [OutputFile(Path(f"{csv_prefix}{suffix}"), "--csv") for suffix in CSV_SUFFIXES if csv_prefix]
    return files + ([OutputFile(Path(html_file), "--html")] if html_file and "{" not in html_file else [])
