"""After any end of a pytest run nothing of it is left: no process, no container, no folder.

KILLS_PER_POINT says how often each ending is tried (20 for a thorough run).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import left_behind
from tests.support import IMAGE, eventually

pytestmark = pytest.mark.slow

TIMES = int(os.environ.get("KILLS_PER_POINT", "1"))

#: How soon after the run's end all must be gone, in seconds.
GONE_SECONDS = 2.0

#: Each test tells the process that it runs in, and works on until it is ended.
SUITE = """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(8))
def test_works_on(redisq, number):
    redisq.client.rpush("jobs", "a")
    pathlib.Path(os.environ["STARTED"], str(os.getpid())).touch()
    redisq.client.blpop("never", 60)
"""


def servers_left(place: Path) -> list[str]:
    """What is left, except xdist's workers, which execnet keeps for seconds after the end of their controller."""
    return [what for what in left_behind(place) if "exec(eval(sys.stdin.readline()))" not in what]


class Run:
    """A pytest run in a folder of its own, which its servers' folders lie in, too."""

    def __init__(self, place: Path, kind: str, workers: int) -> None:
        self.place = place
        self.started = place / "started"
        self.started.mkdir()
        (place / "test_suite.py").write_text(SUITE)
        (place / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function")
        environ = os.environ | {"TMPDIR": str(place), "STARTED": str(self.started), "REDISQ_SERVER": kind}
        if kind == "docker":
            environ["REDISQ_IMAGE"] = IMAGE
        else:
            environ.pop("REDISQ_IMAGE", None)
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *(["-n", str(workers)] * bool(workers)),
        ]
        with open(place / "output", "wb") as output:
            self.process = subprocess.Popen(
                words, cwd=place, env=environ, stdout=output, stderr=output, start_new_session=True
            )

    def working(self, tests: int) -> list[int]:
        """The processes that tests run in, once so many tests do."""

        def begun() -> list[int]:
            assert self.process.poll() is None, (self.place / "output").read_text()
            names = os.listdir(self.started)
            return [int(name) for name in names] if len(names) == tests else []

        return eventually(begun, 60)

    def has_left_nothing(self) -> None:
        """Soon after it has ended; xdist's workers then need not be waited for."""
        self.process.wait(30)
        eventually(lambda: not servers_left(self.place), GONE_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        eventually(lambda: not left_behind(self.place), GONE_SECONDS)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.mark.parametrize("workers", [0, 2], ids=["alone", "xdist"])
@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("time", range(TIMES))
def test_a_run_that_is_ended_leaves_nothing(backend: str, ending: str, workers: int, time: int, place: Path) -> None:  # noqa: ARG001
    run = Run(place, backend, workers)
    run.working(max(1, workers))
    run.process.send_signal(signal.Signals[ending])
    run.has_left_nothing()


@pytest.mark.parametrize("time", range(TIMES))
def test_a_killed_xdist_worker_leaves_nothing_and_the_others_their_server(backend: str, time: int, place: Path) -> None:  # noqa: ARG001
    run = Run(place, backend, 2)
    victim, _ = run.working(2)
    os.kill(victim, signal.SIGKILL)
    run.working(3)  # its successor, on the same server
    assert len(list(place.glob("redisq-*"))) == 1
    run.process.send_signal(signal.SIGTERM)
    run.has_left_nothing()
