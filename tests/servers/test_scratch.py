"""The folder for a process's temporary files goes with the process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from pytest_redisq.servers.scratch import release_scratch, scratch
from tests.attack import Attacked
from tests.support import eventually

_PROGRAM = """
import os, pathlib, signal
from pytest_redisq.servers.scratch import scratch

folder = scratch()
assert scratch() == folder
(folder / "file").touch()
if os.fork() == 0:
    assert scratch() != folder
    (scratch() / "up").touch()
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
    first = scratch()
    shutil.rmtree(first)
    second = scratch()
    assert second.is_dir()
    assert second != first
    release_scratch()
    eventually(lambda: not second.exists(), 2)
    assert scratch() not in (first, second)
    release_scratch()
