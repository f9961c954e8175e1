"""Servers for the tests of servers, and error texts as a snapshot can hold them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.servers import Server, start
from tests.support import local


@pytest.fixture
def server(any_server_settings: Settings) -> Iterator[Server]:
    """A server of each kind, of this test's own."""
    server = start(any_server_settings)
    yield server
    server.stop()


@pytest.fixture
def process() -> Iterator[Server]:
    """A server of this test's own where the kind does not matter."""
    server = start(local())
    yield server
    server.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, since a unix socket's may have a hundred characters only."""
    with tempfile.TemporaryDirectory(prefix="s-") as place:
        yield Path(place)


@pytest.fixture
def refusal() -> Callable[[Settings], str]:
    """The whole text of the error that starting with these settings ends in, as it would be on any machine."""

    def text(settings: Settings) -> str:
        with pytest.raises(ServerError) as error:
            start(settings).stop()
        return anywhere(str(error.value))

    return text


def anywhere(text: str) -> str:
    """`text` without what differs between machines and runs: log lines, paths, ports, others' words."""
    text = re.sub(r"(?m)(^  (?!docker:|process:|embedded:).*\n?)+", "  <log>\n", text)
    text = re.sub(r"(/[\w.-]+)*/([\w-]+-server|redisq-[\w-]+)(?![\w:])", r"<path>/\2", text)
    text = re.sub(r"(<path>/)(redis|valkey)-server", r"\1<server>", text)
    text = re.sub(r"(127\.0\.0\.1|port|port=|--port|localhost)([: =])\d+", r"\1\2<port>", text)
    # The words of the server, of redis-py and of the operating system are theirs to change.
    return re.sub(r"(?m)^(The server at \S+ [^:\n]+): .*$", r"\1: <their words>", text).rstrip("\n")


class Holder:
    """A process that holds a server (see holder.py), in a session of its own, as a terminal would start it."""

    def __init__(self, settings: Settings, run_id: str) -> None:
        asked = json.dumps({"server": settings.server, "image": settings.image})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.holder", asked, run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._told: list[str] = []

    @property
    def url(self) -> str:
        return self._tell()[0]

    @property
    def directory(self) -> Path:
        return Path(self._tell()[1])

    def _tell(self) -> list[str]:
        if not self._told:
            assert self.process.stdout
            self._told = self.process.stdout.readline().split()
        return self._told

    def signal(self, number: int) -> None:
        """To the whole process group, as Ctrl-C does it."""
        os.killpg(self.process.pid, number)
        self._reap()

    def leave(self) -> None:
        """The normal end."""
        assert self.process.stdin
        self.process.stdin.close()
        self._reap()

    def _reap(self) -> None:
        self.process.wait(timeout=20)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


@pytest.fixture
def hold() -> Iterator[Callable[..., Holder]]:
    """Start a process that holds a server; all end with the test."""
    holders: list[Holder] = []

    def start_holder(settings: Settings, run_id: str = "-") -> Holder:
        holders.append(Holder(settings, run_id))
        return holders[-1]

    yield start_holder
    for holder in holders:
        if holder.process.poll() is None:
            holder.signal(signal.SIGKILL)


def reachable(url: str) -> bool:
    """Whether anything listens there still."""
    where = urlsplit(url)
    with contextlib.suppress(OSError), socket.create_connection((str(where.hostname), where.port or 0), 0.5):
        return True
    return False
