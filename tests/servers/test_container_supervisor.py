"""The container supervisor: what it reads, and that nothing is left behind whichever process dies when.

How whole pytest runs end, also under xdist, is in tests/test_endings.py, for every kind of server.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker as docker_py
import pytest
from docker import DockerClient

from pytest_redisq.options import Settings
from pytest_redisq.servers import start
from pytest_redisq.servers.container_supervisor import Frames
from pytest_redisq.servers.docker import LABEL
from tests.support import IMAGE, eventually

#: How often a life is ended at each point; CI's thorough run asks for 20.
TIMES = int(os.environ.get("KILLS_PER_POINT", "2"))

#: How long all that belonged to a run may take to be gone, in seconds.
GONE_SECONDS = 2.0

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]

#: Begins a server as a pytest run does, tells when, and lives until it is ended.
PROGRAM = f"""
import sys, time
from pytest_redisq.interrupts import repeated_where_lost
from pytest_redisq.options import Settings
from pytest_redisq.servers.share import share
with repeated_where_lost(), share(Settings(server="docker", image={IMAGE!r}), sys.argv[1]) as server:
    with server.client() as client:
        assert client.ping()
    print("runs", flush=True)
    time.sleep(60)
"""


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def test_frames_are_whole_wherever_the_stream_is_cut() -> None:
    parts = [(2, b"log line\n"), (1, b"done 1\n"), (2, b""), (1, bytes(range(256)))]
    stream = b"".join(itertools.starmap(frame, parts))
    for cut in range(len(stream)):
        frames = Frames()
        assert [*frames.feed(stream[:cut]), *frames.feed(stream[cut:])] == parts


class Run:
    """One run whose end is watched: its folder, its processes, its container."""

    def __init__(self, place: Path, daemon: DockerClient) -> None:
        self.place = place
        self.name = f"run-{time.monotonic_ns()}"
        # As `share` names it.
        self.folder = place / f"redisq-{os.getuid()}-{hashlib.sha256(self.name.encode()).hexdigest()[:16]}"
        self._daemon = daemon
        self._environ = {**os.environ, "TMPDIR": str(place)}

    def begin(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *command], env=self._environ, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def containers(self) -> list[str]:
        found = self._daemon.api.containers(all=True, filters={"label": f"{LABEL}={self.folder}"})
        return [str(container["Names"]) for container in found]

    def processes(self) -> list[str]:
        """The command lines that name the run's folder, where /proc tells: the container supervisor's."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        return [line for line in found if self.folder.name in line]

    def remains(self) -> list[str]:
        return [*self.containers(), *self.processes(), *(str(folder) for folder in [self.folder] if folder.exists())]

    def assert_gone(self) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        while remains := self.remains():
            assert time.monotonic() < deadline, f"left behind: {remains}"


@pytest.fixture(scope="module")
def daemon() -> Iterator[DockerClient]:
    client = docker_py.from_env()
    yield client
    client.close()


@pytest.fixture
def begin(folder: Path, daemon: DockerClient) -> Callable[[], Run]:
    return lambda: Run(folder, daemon)


def end(process: subprocess.Popen[str], how: signal.Signals) -> None:
    """End a process by a signal, as Ctrl-C, a CI system or the out-of-memory killer does; wait until it is dead."""
    process.send_signal(how)
    process.communicate(timeout=30)


@pytest.mark.docker
@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("_again", range(TIMES))
def test_a_running_server_ends_with_its_process(begin: Callable[[], Run], how: signal.Signals, _again: int) -> None:
    run = begin()
    process = run.begin("-c", PROGRAM, run.name)
    assert process.stdout
    assert process.stdout.readline() == "runs\n"
    assert len(run.containers()) == 1
    end(process, how)
    run.assert_gone()


@pytest.mark.docker
@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("_again", range(TIMES))
def test_a_start_that_is_cut_short_leaves_nothing(begin: Callable[[], Run], how: signal.Signals, _again: int) -> None:
    """At any moment: before the container is created, between that and its start, and after."""
    run = begin()
    process = run.begin("-c", PROGRAM, run.name)
    eventually(run.processes, 20, 0.0005)
    moment = time.monotonic() + random.Random(f"{how}{_again}").uniform(0, 0.7)
    eventually(lambda: time.monotonic() > moment, every_seconds=0.001)
    end(process, how)
    run.assert_gone()


@pytest.mark.docker
@pytest.mark.parametrize("seen", ["container.json", "answer", "log"])
def test_killed_at_each_step_of_a_start_it_leaves_nothing(begin: Callable[[], Run], seen: str) -> None:
    run = begin()
    process = run.begin("-c", PROGRAM, run.name)
    eventually((run.folder / seen).exists, 20, 0.0005)
    end(process, signal.SIGKILL)
    run.assert_gone()


@pytest.mark.docker
def test_without_its_supervisor_the_container_ends_by_itself(daemon: DockerClient) -> None:
    """The second line of defence: its stdin closes, the supervisor ends, the daemon removes it."""
    server = start(Settings(server="docker", image=IMAGE))
    assert server.supervisor
    run = str(server.supervisor.directory)
    supervisors = [
        int(entry.parent.name)
        for entry in Path("/proc").glob("[0-9]*/cmdline")
        if b"container_supervisor" in (line := entry.read_bytes()) and run.encode() in line
    ]
    assert len(supervisors) == 1
    os.kill(supervisors[0], signal.SIGKILL)
    eventually(lambda: not daemon.api.containers(all=True, filters={"label": f"{LABEL}={run}"}), GONE_SECONDS)
    server.supervisor.discard()
    server.stop()
    eventually(lambda: not server.supervisor or not server.supervisor.directory.exists())
