"""The keeper: what it promises of any program, so here of little shell scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_redisq.errors import ServerError
from pytest_redisq.servers.keeper import SCRIPT, Keeper
from tests.support import eventually


@pytest.fixture
def keeper(folder: Path) -> Iterator[Keeper]:
    """With a folder, and nothing launched yet."""
    directory = folder / "kept"
    directory.mkdir()
    keeper = Keeper(directory)
    yield keeper
    keeper.release()
    eventually(lambda: not keeper.listening())


def _program(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def _alive(pid: int) -> bool:
    """Whether there is such a process, be it only on its way out."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _pid(keeper: Keeper) -> int:
    """What a program says that begins with `echo $$`."""
    return int(eventually(keeper.log).split()[0])


def test_nothing_runs_before_it_is_told(keeper: Keeper) -> None:
    keeper.launch(_program("echo started"))
    keeper.order("hello")
    assert not keeper.running()
    assert keeper.log() == ""


def test_a_program_that_ends_is_noticed_with_its_status(keeper: Keeper) -> None:
    keeper.launch(_program("echo last words; exit 7"))
    keeper.order("start")
    eventually(keeper.exits)
    assert keeper.exits() == [7]
    assert not keeper.running()
    assert keeper.last_words() == "The server's last log lines:\n  last words"


def test_a_killed_program_is_dead_when_the_order_is_done(keeper: Keeper) -> None:
    keeper.launch(_program("echo $$; exec sleep 60"))
    keeper.order("start")
    pid = _pid(keeper)
    keeper.order("kill")
    assert not _alive(pid)
    assert keeper.exits() == [128 + signal.SIGKILL]


def test_it_starts_as_often_as_it_is_told(keeper: Keeper) -> None:
    keeper.launch(_program("echo $$; exec sleep 60"))
    for turn in range(3):
        keeper.order("start")
        assert keeper.running()
        keeper.order("kill")
        assert len(keeper.exits()) == turn + 1


def test_orders_to_a_dead_program_reach_no_other(keeper: Keeper) -> None:
    """Its number may be another's by then, so it is not signalled: the shell would complain that there is none."""
    keeper.launch(_program("exit 0"))
    keeper.order("start")
    eventually(keeper.exits)
    for order in ("pause", "resume", "kill"):
        keeper.order(order)
    keeper.order("hello")
    assert "kill:" not in keeper.log()


def test_a_stopped_program_can_still_be_killed(keeper: Keeper) -> None:
    keeper.launch(_program("echo $$; exec sleep 60"))
    keeper.order("start")
    pid = _pid(keeper)
    keeper.order("pause")
    keeper.order("kill")
    assert not _alive(pid)


def test_all_goes_when_the_last_holder_lets_go(keeper: Keeper) -> None:
    """What the program forked goes as well."""
    keeper.launch(_program("sleep 60 & echo $!; wait"))
    keeper.order("start")
    child = _pid(keeper)
    other = Keeper(keeper.directory)
    assert other.join()
    keeper.release()
    other.order("hello")
    assert _alive(child)
    other.release()
    eventually(lambda: not _alive(child) and not keeper.directory.exists())


def test_it_clears_away_whatever_path_it_was_given(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may have made the PATH its own."""
    monkeypatch.setenv("PATH", "/nonexistent")
    keeper.launch(_program("echo started"))
    keeper.order("start")
    keeper.release()
    eventually(lambda: not keeper.directory.exists())


def test_a_keeper_that_is_gone_cannot_be_joined_and_says_so(keeper: Keeper) -> None:
    keeper.launch(_program("exec sleep 60"))
    keeper.release()
    eventually(lambda: not keeper.listening())
    assert not Keeper(keeper.directory).join()
    with pytest.raises(ServerError, match="Cannot pause the server: its keeper is gone"):
        keeper.order("pause")


def test_a_folder_without_a_keeper_is_discarded_all_the_same(keeper: Keeper) -> None:
    keeper.discard()
    assert not keeper.directory.exists()


def test_other_programs_started_from_here_hold_nothing(keeper: Keeper) -> None:
    """Not even one that is forked from a process where the lease was joined twice."""
    keeper.launch(_program("exec sleep 60"))
    other = Keeper(keeper.directory)
    assert other.join()
    program = "import sys; sys.stdin.read()"
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(read_end, 0)
        os.close(write_end)
        os.execv(sys.executable, [sys.executable, "-c", program])
    os.close(read_end)
    keeper.release()
    other.release()
    eventually(lambda: not keeper.directory.exists())
    os.close(write_end)
    os.waitpid(child, 0)


def test_the_script_suits_a_container(folder: Path) -> None:
    """There its standard input is attached and its streams are forwarded: nothing but those and a folder is needed."""
    done = subprocess.run(
        ["/bin/sh", "-c", SCRIPT, "keeper", str(folder), "sleep", "60"],
        input="a start\nb pause\nc resume\nd kill\ne hello\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout.splitlines() == ["start 1", "done a", "done b", "done c", "exit 1 137", "done d", "done e"]
