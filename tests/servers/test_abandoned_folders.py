"""Nothing of ours outlives its holder, whichever way that ends.

KILLS_PER_POINT says how often each way is tried (20 for a thorough run).
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_redisq.options import Settings
from pytest_redisq.servers import start
from pytest_redisq.servers.abandoned_folders import folder_prefix
from tests.servers.conftest import Holder, reachable
from tests.support import eventually, local

TIMES = int(os.environ.get("KILLS_PER_POINT", "2"))
#: How soon after its holder's end all must be gone, in seconds.
GONE_SECONDS = 2.0

Hold = Callable[..., Holder]


@pytest.mark.parametrize("run_id", ["-", "shared"], ids=["own", "shared"])
@pytest.mark.parametrize("ending", ["end", "SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_server_and_folder_go_with_their_holder(
    any_server_settings: Settings, hold: Hold, ending: str, run_id: str
) -> None:
    for time in range(TIMES):
        holder = hold(any_server_settings, run_id if run_id == "-" else f"{ending}{os.getpid()}{time}")
        assert holder.directory.is_dir()
        assert reachable(holder.url)
        if ending == "end":
            holder.leave()
        else:
            holder.signal(signal.Signals[ending])
        eventually(lambda held=holder: not held.directory.exists() and not reachable(held.url), GONE_SECONDS)


def _supervisor_processes(directory: Path) -> dict[int, bool]:
    """The processes of the supervisor of `directory` by process id, and whether it is the one that reads the lease."""
    found: dict[int, bool] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"redisq-supervisor" in words and os.fsencode(directory) in words:
                found[int(entry.name)] = os.readlink(entry / "fd" / "0").endswith("/lease")
    return found


def _kill_whole_supervisor(directory: Path) -> None:
    """All of its processes at once: none of them sees another one end."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in _supervisor_processes(directory):
            os.kill(pid, number)
    eventually(lambda: not _supervisor_processes(directory), GONE_SECONDS)


def test_a_supervisor_that_is_killed_leaves_neither_server_nor_folder(hold: Hold) -> None:
    holder = hold(local())
    reader = [pid for pid, reads in _supervisor_processes(holder.directory).items() if reads]
    assert len(reader) == 1
    os.kill(reader[0], signal.SIGKILL)
    eventually(lambda: not holder.directory.exists() and not reachable(holder.url), GONE_SECONDS)
    holder.leave()


def test_a_supervisor_survives_the_death_of_its_own_watchers(hold: Hold) -> None:
    holder = hold(local())
    for pid, reads in _supervisor_processes(holder.directory).items():
        if not reads:
            os.kill(pid, signal.SIGKILL)
    assert reachable(holder.url)
    holder.signal(signal.SIGKILL)
    eventually(lambda: not holder.directory.exists() and not reachable(holder.url), GONE_SECONDS)


def test_a_holder_ends_the_server_of_a_supervisor_that_was_killed(hold: Hold) -> None:
    holder = hold(local())
    _kill_whole_supervisor(holder.directory)
    assert reachable(holder.url)
    holder.leave()
    eventually(lambda: not holder.directory.exists() and not reachable(holder.url), GONE_SECONDS)


def test_the_next_start_sweeps_what_is_left_of_holder_and_supervisor(
    hold: Hold, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    killed, living = hold(local(), "some run"), hold(local())
    assert reachable(killed.url)
    assert reachable(living.url)  # its start sweeps, too
    strange = folder / f"{folder_prefix()}strange"  # no supervisor has ever been there
    strange.mkdir(mode=0o700)
    _kill_whole_supervisor(killed.directory)
    killed.signal(signal.SIGKILL)
    assert reachable(killed.url)
    start(local()).stop()
    assert not killed.directory.exists()
    assert not reachable(killed.url)
    assert reachable(living.url)
    assert living.directory.is_dir()
    assert strange.is_dir()
    living.leave()
    eventually(lambda: not living.directory.exists(), GONE_SECONDS)


def test_a_holder_killed_while_it_starts_leaves_nothing(hold: Hold, folder: Path) -> None:
    """As soon as its supervisor is there; the server may be about to start, starting, or there."""
    for _ in range(TIMES):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(folder))
            holder = hold(local())
        eventually(lambda: list(folder.glob("*/data")), 20)
        holder.signal(signal.SIGKILL)
        eventually(lambda: not list(folder.iterdir()), GONE_SECONDS)
