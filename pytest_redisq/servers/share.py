"""One server for all processes of one test run; different runs never share a server.

The processes share a folder named after the run. The first process starts the server there, under a file lock, and
writes `server.json`; the other processes join its lease. The folder is the supervisor's, and goes with the server.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.servers.abandoned_folders import end_and_remove, folder_prefix
from pytest_redisq.servers.choose import choose, connect, start_in
from pytest_redisq.servers.server import Server
from pytest_redisq.servers.supervisor import Supervisor

#: Commands that are forbidden on a server that several processes share.
CROSSING = ("flushall", "swapdb")

#: Seconds that a folder may take to vanish while its supervisor ends.
_VANISH_SECONDS = 5.0


@contextlib.contextmanager
def share(settings: Settings, run_id: str) -> Iterator[Server]:
    """The server of the run `run_id`. The first process starts it; it ends when the last process has left."""
    server = connect(settings) if settings.url else _join_or_start(settings, run_id)
    server.shared = True
    try:
        yield server
    finally:
        server.stop()


def run_folder(run_id: str) -> Path:
    """The private folder of the run. Its path is short, since a unix socket below it has a limited path length."""
    name = hashlib.sha256(run_id.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"{folder_prefix()}{name}"


def _join_or_start(settings: Settings, run_id: str) -> Server:
    directory = run_folder(run_id)
    # Before the folder is created: until a supervisor has it, no process removes it, so the start follows at once.
    kind, reason = choose(settings) if not (directory / "server.json").exists() else (None, "")
    while True:
        with _locked(directory) as current:
            if not current:
                continue
            record, supervisor = directory / "server.json", Supervisor(directory)
            if not supervisor.listening():
                try:
                    there = os.listdir(directory)
                except FileNotFoundError:  # its supervisor has just removed it
                    continue
                if there != ["lock"]:  # left by a supervisor that was killed
                    end_and_remove(directory)
                    continue
                if kind is None:
                    kind, reason = choose(settings)
                server = start_in(directory, settings, kind, reason)
                _forbid_what_crosses_databases(server)
                record.write_text(json.dumps(server.record()))
                return server
            if record.exists() and supervisor.join():
                return Server(**json.loads(record.read_text()), supervisor=supervisor)
        # The start failed, or the run has just ended: the supervisor is about to remove its folder.
        if not supervisor.gone(_VANISH_SECONDS):
            raise ServerError(f"The server in {directory} does not end.\nWhat to do: end it, or remove that folder.")


def _forbid_what_crosses_databases(server: Server) -> None:
    """Forbid FLUSHALL and SWAPDB, which would affect the databases of tests in other processes. FLUSHDB is allowed."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", *(f"-{command}" for command in CROSSING))


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    """Hold the folder's lock; yields False if the folder was removed while this process waited for the lock."""
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        _refuse_others(directory)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield _is(lock, directory / "lock")
    finally:
        os.close(lock)


def _refuse_others(directory: Path) -> None:
    owner = directory.lstat()
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077 or not stat.S_ISDIR(owner.st_mode):
        raise ServerError(f"{directory} is not a private folder of this user.\nWhat to do: remove it, or set TMPDIR.")


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
