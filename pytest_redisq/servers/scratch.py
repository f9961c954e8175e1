"""The folder for this process's temporary files, which goes with the process whatever signal ends it."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from pathlib import Path

from pytest_redisq import interrupts
from pytest_redisq.servers.keeper import Keeper
from pytest_redisq.servers.leftovers import prefix

_lock = threading.Lock()
_keeper: Keeper | None = None
_multiprocessing: Keeper | None = None


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
