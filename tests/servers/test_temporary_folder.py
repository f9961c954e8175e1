"""The folder for a process's temporary files goes with the process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from pytest_redisq.servers.temporary_folder import remove_temporary_folder, temporary_folder
from tests.attack import Attacked
from tests.support import eventually

_PROGRAM = """
import os, pathlib, signal
from pytest_redisq.servers.temporary_folder import temporary_folder

folder = temporary_folder()
assert temporary_folder() == folder
(folder / "file").touch()
if os.fork() == 0:
    assert temporary_folder() != folder
    (temporary_folder() / "up").touch()
signal.pause()
"""


@pytest.mark.parametrize("ending", ["SIGINT", "SIGKILL"])
def test_it_goes_with_the_process(tmp_path: Path, ending: str) -> None:
    attacked = Attacked(tmp_path, [sys.executable, "-c", _PROGRAM], ending=ending)
    eventually(lambda: list(attacked.temporary.glob("*/up")))
    (own,) = attacked.temporary.glob("*/file")
    attacked.end()
    eventually(lambda: not own.parent.exists(), 2)
    assert list(attacked.temporary.glob("*/up"))  # of the forked process, which lives on
    (forked,) = [pid for pid, command in attacked.running().items() if "signal.pause()" in command]
    os.kill(forked, signal.SIGKILL)
    attacked.has_left_nothing()


def test_it_is_made_anew_once_it_is_gone() -> None:
    first = temporary_folder()
    shutil.rmtree(first)
    second = temporary_folder()
    assert second.is_dir()
    assert second != first
    remove_temporary_folder()
    eventually(lambda: not second.exists(), 2)
    assert temporary_folder() not in (first, second)
    remove_temporary_folder()
