"""The folder for this process's temporary files. It is removed when the process ends, by any signal."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from pytest_redisq import interrupts
from pytest_redisq.errors import RedisqError
from pytest_redisq.servers.abandoned_folders import folder_prefix
from pytest_redisq.servers.supervisor import Supervisor

#: The errors for a folder that is full or cannot be written.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

_lock = threading.Lock()
_supervisor: Supervisor | None = None
_multiprocessing: Supervisor | None = None


@contextlib.contextmanager
def explain_full_disk() -> Iterator[None]:
    """Raises RedisqError, with what to do, if the folder of temporary files is full or cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise RedisqError(
            f"Temporary files cannot be written to {tempfile.gettempdir()}: {os.strerror(error.errno)}.\n"
            "What to do: make room there, or set TMPDIR to another folder."
        ) from error


def temporary_folder() -> Path:
    """The folder, created at first use; pass it as `dir` to `tempfile`. It is removed when this process ends."""
    global _supervisor
    with interrupts.deferred(), _lock:
        if _supervisor is None or not _supervisor.listening():
            _release()
            _supervisor = _launch(folder_prefix())
        return _supervisor.directory


def remove_temporary_folder() -> None:
    """Remove the folder now. The next call of `temporary_folder` creates a new one."""
    with _lock:
        _release()


def keep_multiprocessing_folder() -> None:
    """Make multiprocessing's own folder, with the socket of its fork server, end with this process."""
    global _multiprocessing
    config = vars(multiprocessing.current_process())["_config"]
    with _lock:
        if not config.get("tempdir"):
            # Not inside `temporary_folder`, which may be removed while the fork server lives.
            _multiprocessing = _launch("pymp-")
            config["tempdir"] = str(_multiprocessing.directory)


def _launch(name: str) -> Supervisor:
    supervisor = Supervisor(Path(tempfile.mkdtemp(prefix=name)))
    try:
        supervisor.launch([])
    except BaseException:
        supervisor.discard()
        raise
    return supervisor


def _release() -> None:
    global _supervisor
    if _supervisor is not None:
        _supervisor.discard()
        _supervisor = None


def _forget() -> None:
    # The folder is the parent's; a forked process makes its own.
    global _supervisor, _lock
    _supervisor, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
