"""The folder for this process's temporary files, which goes with the process whatever signal ends it."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

from pytest_redisq import interrupts
from pytest_redisq.servers.keeper import Keeper
from pytest_redisq.servers.leftovers import prefix

_lock = threading.Lock()
_keeper: Keeper | None = None


def scratch() -> Path:
    """The folder, made at first need: give it as `dir` to `tempfile`. A keeper removes it when this process ends."""
    global _keeper
    with interrupts.deferred(), _lock:
        if _keeper is None or not _keeper.listening():
            _release()
            keeper = Keeper(Path(tempfile.mkdtemp(prefix=prefix())))
            try:
                keeper.launch([])
            except BaseException:
                keeper.discard()
                raise
            _keeper = keeper
        return _keeper.directory


def release_scratch() -> None:
    """Have the folder removed now; the next `scratch` makes a new one."""
    with _lock:
        _release()


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
