"""The folder for this process's temporary files, which goes with the process whatever signal ends it."""

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
from pytest_redisq.servers.keeper import Keeper
from pytest_redisq.servers.leftovers import prefix

#: What an operating system says of a folder that is full or cannot be written.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

_lock = threading.Lock()
_keeper: Keeper | None = None
_multiprocessing: Keeper | None = None


@contextlib.contextmanager
def told_if_full() -> Iterator[None]:
    """Says in words that the folder of temporary files has no room or cannot be written; raises RedisqError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise RedisqError(
            f"Temporary files cannot be written to {tempfile.gettempdir()}: {os.strerror(error.errno)}.\n"
            "What to do: make room there, or set TMPDIR to another folder."
        ) from error


def scratch() -> Path:
    """The folder, made at first need: give it as `dir` to `tempfile`. A keeper removes it when this process ends."""
    global _keeper
    with interrupts.deferred(), _lock:
        if _keeper is None or not _keeper.listening():
            _release()
            _keeper = _launch(prefix())
        return _keeper.directory


def release_scratch() -> None:
    """Have the folder removed now; the next `scratch` makes a new one."""
    with _lock:
        _release()


def keep_multiprocessing_folder() -> None:
    """Have multiprocessing's own folder, which holds the socket of its fork server, removed when this process ends."""
    global _multiprocessing
    config = vars(multiprocessing.current_process())["_config"]
    with _lock:
        if not config.get("tempdir"):
            # Not in `scratch`, which may be released while the fork server lives.
            _multiprocessing = _launch("pymp-")
            config["tempdir"] = str(_multiprocessing.directory)


def _launch(name: str) -> Keeper:
    keeper = Keeper(Path(tempfile.mkdtemp(prefix=name)))
    try:
        keeper.launch([])
    except BaseException:
        keeper.discard()
        raise
    return keeper


def _release() -> None:
    global _keeper
    if _keeper is not None:
        _keeper.discard()
        _keeper = None


def _forget() -> None:
    # The folder is the parent's; a forked process makes its own.
    global _keeper, _lock
    _keeper, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
