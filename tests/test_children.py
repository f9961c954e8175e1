"""A child ends with the process that started it, and its own children with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_redisq.children import ChildProcess, children_of
from tests.attack import GONE_SECONDS, Attacked
from tests.support import eventually

#: Reports that it runs, then waits without end, and ignores all signals that can be ignored.
_STUBBORN = "trap '' HUP INT QUIT TERM; echo up; while :; do sleep 1000; done"
#: Has a child that waits without end.
_FORKING = f'sh -c "{_STUBBORN}" & wait'
#: Has a child in a process group of its own.
_GROUPING = "set -m; sh -c 'echo up; exec sleep 1000' & wait"

_PARENT = """
import signal, subprocess, sys, threading
from pytest_redisq.children import ChildProcess

def start(script):
    child = ChildProcess(["/bin/sh", "-c", script], stdout=subprocess.PIPE)
    assert child.process.stdout.readline() == b"up\\n"
    if "stop" in sys.argv:
        child.process.send_signal(signal.SIGSTOP)

threading.Thread(target=start, args=(sys.argv[1],)).start()
threading.Event().wait()
"""

_FORKED = """
import multiprocessing, signal, subprocess, sys
from pytest_redisq.children import ChildProcess

child = ChildProcess(["/bin/sh", "-c", sys.argv[1]], stdout=subprocess.PIPE)
# A process that was forked outlives this one for a while: it must not keep the child alive.
multiprocessing.get_context("fork").Process(target=signal.pause).start()
signal.pause()
"""


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    child = ChildProcess(["/bin/sh", "-c", _STUBBORN], stdout=subprocess.PIPE)
    assert child.process.stdout
    assert child.process.stdout.readline() == b"up\n"
    yield child
    child.end()
    child.process.wait()
    child.process.stdout.close()


@pytest.mark.parametrize("script", [_STUBBORN, _FORKING, _GROUPING], ids=["itself", "its child", "its process group"])
@pytest.mark.parametrize("ending", ["SIGHUP", "SIGKILL"])
def test_a_child_ends_with_its_parent(tmp_path: Path, ending: str, script: str) -> None:
    attacked = Attacked(tmp_path, [sys.executable, "-c", _PARENT, script], ending=ending)
    eventually(lambda: "sleep 1000" in attacked.running().values())
    attacked.end()
    attacked.has_left_nothing()


def test_a_stopped_child_ends_with_its_parent(tmp_path: Path) -> None:
    script = "trap '' HUP INT QUIT TERM; sleep 1000 & echo up; wait"  # nothing is forked once the child is stopped
    attacked = Attacked(tmp_path, [sys.executable, "-c", _PARENT, script, "stop"], ending="SIGKILL")
    eventually(lambda: "sleep 1000" in attacked.running().values())
    attacked.end()
    attacked.has_left_nothing()


def test_a_forked_process_does_not_hold_the_lease(tmp_path: Path) -> None:
    attacked = Attacked(tmp_path, [sys.executable, "-c", _FORKED, "exec sleep 1000"], ending="SIGKILL")
    eventually(lambda: attacked.count("signal.pause()") == 2 and "sleep 1000" in attacked.running().values())
    attacked.end()
    eventually(lambda: "sleep 1000" not in attacked.running().values(), GONE_SECONDS)
    assert attacked.count("signal.pause()") == 1
    attacked.kill()


def test_signals_reach_the_program_and_not_its_watchdog(child: ChildProcess) -> None:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        child.signal(number)
    child.end()
    assert child.process.wait(2) == -signal.SIGKILL


def test_the_program_is_not_the_parent_of_its_watchdog() -> None:
    """It may wait for all of its children, or signal them."""
    child = ChildProcess(["/bin/sh", "-c", "echo $(pgrep -P $$ | wc -l)"], stdout=subprocess.PIPE)
    out, _ = child.process.communicate()
    child.end()
    assert int(out) == 1  # the shell that runs pgrep


def test_a_child_without_its_watchdog_is_ended_all_the_same(child: ChildProcess) -> None:
    group = subprocess.run(["pgrep", "-g", str(child.process.pid)], capture_output=True, text=True, check=True)
    for pid in {int(word) for word in group.stdout.split()} - {child.process.pid}:
        if b"redisq-watchdog" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    child.end()
    assert child.process.wait(2) == -signal.SIGKILL


def test_what_is_no_program_is_told_at_once() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        ChildProcess(["no-such-program"])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="NOT TESTED: there is no /proc here")
def test_children_of_lists_a_child_whose_name_has_blanks_and_brackets(tmp_path: Path) -> None:
    program = tmp_path / "a) 1 2 (b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "1000"])
    try:
        assert child.pid in children_of(os.getpid())
        assert child.pid not in children_of(child.pid)
    finally:
        child.kill()
        child.wait()
    assert child.pid not in children_of(os.getpid())
