"""The supervisor: what it promises of any program, so here of little shell scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_redisq.errors import ServerError
from pytest_redisq.servers.supervisor import SCRIPT, Supervisor
from tests.support import eventually


@pytest.fixture
def supervisor(folder: Path) -> Iterator[Supervisor]:
    """With a folder, and nothing launched yet."""
    directory = folder / "kept"
    directory.mkdir()
    supervisor = Supervisor(directory)
    yield supervisor
    supervisor.release()
    eventually(lambda: not supervisor.listening())


def _program(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def _alive(pid: int) -> bool:
    """Whether there is such a process, be it only on its way out."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _pid(supervisor: Supervisor) -> int:
    """The output of a program that begins with `echo $$`."""
    return int(eventually(supervisor.log).split()[0])


def test_nothing_runs_before_it_is_told(supervisor: Supervisor) -> None:
    supervisor.launch(_program("echo started"))
    supervisor.order("hello")
    assert not supervisor.running()
    assert supervisor.log() == ""


def test_a_program_that_ends_is_noticed_with_its_status(supervisor: Supervisor) -> None:
    supervisor.launch(_program("echo last words; exit 7"))
    supervisor.order("start")
    eventually(supervisor.exits)
    assert supervisor.exits() == [7]
    assert not supervisor.running()
    assert supervisor.last_words() == "The server's last log lines:\n  last words"


def test_a_killed_program_is_dead_when_the_order_is_done(supervisor: Supervisor) -> None:
    supervisor.launch(_program("echo $$; exec sleep 60"))
    supervisor.order("start")
    pid = _pid(supervisor)
    supervisor.order("kill")
    assert not _alive(pid)
    assert supervisor.exits() == [128 + signal.SIGKILL]


def test_it_starts_as_often_as_it_is_told(supervisor: Supervisor) -> None:
    supervisor.launch(_program("echo $$; exec sleep 60"))
    for turn in range(3):
        supervisor.order("start")
        assert supervisor.running()
        supervisor.order("kill")
        assert len(supervisor.exits()) == turn + 1


def test_orders_to_a_dead_program_reach_no_other(supervisor: Supervisor) -> None:
    """Its number may be another's by then, so it is not signalled: the shell would complain that there is none."""
    supervisor.launch(_program("exit 0"))
    supervisor.order("start")
    eventually(supervisor.exits)
    for order in ("pause", "resume", "kill"):
        supervisor.order(order)
    supervisor.order("hello")
    assert "kill:" not in supervisor.log()


def test_a_stopped_program_can_still_be_killed(supervisor: Supervisor) -> None:
    supervisor.launch(_program("echo $$; exec sleep 60"))
    supervisor.order("start")
    pid = _pid(supervisor)
    supervisor.order("pause")
    supervisor.order("kill")
    assert not _alive(pid)


def test_all_goes_when_the_last_holder_lets_go(supervisor: Supervisor) -> None:
    """Processes that the program forked end, too."""
    supervisor.launch(_program("sleep 60 & echo $!; wait"))
    supervisor.order("start")
    child = _pid(supervisor)
    other = Supervisor(supervisor.directory)
    assert other.join()
    supervisor.release()
    other.order("hello")
    assert _alive(child)
    other.release()
    eventually(lambda: not _alive(child) and not supervisor.directory.exists())


def test_it_clears_away_whatever_path_it_was_given(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may have made the PATH its own."""
    monkeypatch.setenv("PATH", "/nonexistent")
    supervisor.launch(_program("echo started"))
    supervisor.order("start")
    supervisor.release()
    eventually(lambda: not supervisor.directory.exists())


def test_a_supervisor_that_is_gone_cannot_be_joined_and_says_so(supervisor: Supervisor) -> None:
    supervisor.launch(_program("exec sleep 60"))
    supervisor.release()
    eventually(lambda: not supervisor.listening())
    assert not Supervisor(supervisor.directory).join()
    with pytest.raises(ServerError, match="Cannot pause the server: its supervisor is gone"):
        supervisor.order("pause")


def test_a_folder_without_a_supervisor_is_discarded_all_the_same(supervisor: Supervisor) -> None:
    supervisor.discard()
    assert not supervisor.directory.exists()


def test_other_programs_started_from_here_hold_nothing(supervisor: Supervisor) -> None:
    """Not even one that is forked from a process where the lease was joined twice."""
    supervisor.launch(_program("exec sleep 60"))
    other = Supervisor(supervisor.directory)
    assert other.join()
    program = "import sys; sys.stdin.read()"
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(read_end, 0)
        os.close(write_end)
        os.execv(sys.executable, [sys.executable, "-c", program])
    os.close(read_end)
    supervisor.release()
    other.release()
    eventually(lambda: not supervisor.directory.exists())
    os.close(write_end)
    os.waitpid(child, 0)


def test_the_script_suits_a_container(folder: Path) -> None:
    """There its standard input is attached and its streams are forwarded: nothing but those and a folder is needed."""
    done = subprocess.run(
        ["/bin/sh", "-c", SCRIPT, "supervisor", str(folder), "sleep", "60"],
        input="a start\nb pause\nc resume\nd kill\ne hello\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.splitlines() == ["start 1", "done a", "done b", "done c", "exit 1 137", "done d", "done e"]
