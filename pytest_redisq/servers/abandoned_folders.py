"""Abandoned folders: left when a supervisor was killed. The lease has no reader, and a server may still run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pytest_redisq.errors import ServerError
from pytest_redisq.servers.server_connection import ServerClosedError, ServerConnection
from pytest_redisq.servers.supervisor import LEASE

#: Seconds that a server may take for one answer.
_ANSWER_SECONDS = 1.0


def folder_prefix() -> str:
    """The prefix of the names of redisq's folders in TMPDIR. It contains the user id."""
    return f"redisq-{os.getuid()}-"


def remove_abandoned_folders() -> None:
    """Remove the folders in TMPDIR that have no supervisor any more, and end the servers in them.

    A folder is removed only if it is private to this user and its lease has no reader. A folder without a lease is
    about to get one.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{folder_prefix()}*"):
        with contextlib.suppress(OSError):
            owner = folder.lstat()
            if owner.st_uid != os.getuid() or owner.st_mode & 0o077 or not stat.S_ISDIR(owner.st_mode):
                continue
            with _locked(folder) as ours:
                if ours and (folder.suffix == ".gone" or _abandoned(folder)):
                    end_and_remove(folder)


def end_and_remove(folder: Path) -> None:
    """End the server in `folder`, if one runs there, and remove the folder."""
    with contextlib.suppress(OSError, ValueError, ServerError, ServerClosedError):
        _shut_down(folder)
    gone = folder.with_suffix(".gone")
    with contextlib.suppress(OSError):
        folder.rename(gone)  # first, since another run may be about to create it again
    shutil.rmtree(gone, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    """Whether the folder has a lease without a reader."""
    lease = folder / LEASE
    if not lease.exists():
        return False
    try:
        os.close(os.open(lease, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return lease.exists()
    return False


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder that processes share (see `share`); yields False if another process holds it."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        yield True
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield os.path.samestat(os.fstat(lock), (folder / "lock").stat())
    except BlockingIOError:
        yield False
    finally:
        os.close(lock)


def _shut_down(folder: Path) -> None:
    """Shut down the server that `folder/redis.conf` describes, if its working directory is in `folder`."""
    words = [shlex.split(line) for line in (folder / "redis.conf").read_text().splitlines()]
    conf = {line[0]: line[1] for line in words if len(line) == 2}
    options = {"host": "127.0.0.1", "port": int(conf["port"]), "password": conf["requirepass"]}
    with ServerConnection(options, seconds=_ANSWER_SECONDS) as connection:
        if connection.ask("CONFIG", "GET", "dir") == [b"dir", os.path.realpath(conf["dir"]).encode()]:
            while True:
                connection.ask("SHUTDOWN", "NOSAVE")  # until it closes the connection
