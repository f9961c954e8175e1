"""Nothing of ours outlives its holder, whichever way that ends.

KILLS_PER_POINT says how often each way is tried (20 for a thorough run).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_redisq.options import Settings
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


def test_a_holder_killed_while_it_starts_leaves_nothing(hold: Hold, folder: Path) -> None:
    """As soon as its keeper is there; the server may be about to start, starting, or there."""
    for _ in range(TIMES):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(folder))
            holder = hold(local())
        eventually(lambda: list(folder.glob("*/data")), 20)
        holder.signal(signal.SIGKILL)
        eventually(lambda: not list(folder.iterdir()), GONE_SECONDS)
