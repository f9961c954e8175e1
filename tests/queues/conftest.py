"""One server for the tests of queues, emptied for each; and workers in processes of their own, to be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pytest_redisq.options import Settings
from pytest_redisq.servers import Server, start
from tests.support import IMAGE, eventually, local_kind


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)) and "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The kind that REDISQ_SERVER says, else the fastest that this machine has."""
    kind = os.environ.get("REDISQ_SERVER") or local_kind()
    server = start(Settings(server=kind, image=IMAGE if kind == "docker" else None))
    yield server
    server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        client.config_resetstat()
        yield client


@pytest.fixture
def default_client(server: Server) -> Iterator[redis.Redis]:
    """A client with redis-py's defaults: it retries, and reads with a timeout."""
    with redis.Redis.from_url(server.url) as default:
        yield default


@pytest.fixture
def until_blocked(client: redis.Redis) -> Callable[[int], None]:
    """Waits until so many clients are blocked in the server."""

    def wait(count: int = 1) -> None:
        eventually(lambda: client.info("clients")["blocked_clients"] >= count)

    return wait


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Outcome]]:
    """Calls a function in a thread, which must have ended when the test has."""
    threads: list[threading.Thread] = []

    def begin(function: Callable[..., Any], *args: Any) -> Outcome:
        outcome = Outcome()
        thread = threading.Thread(target=outcome.of, args=(function, *args))
        threads.append(thread)
        thread.start()
        return outcome

    yield begin
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


class Outcome:
    """The result or the exception of a call in a thread."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._value: Any = None

    def of(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            self._value = function(*args)
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()

    def result(self, seconds: float = 10.0) -> Any:
        assert self._done.wait(seconds), f"still running after {seconds} s"
        if self._error is not None:
            raise self._error
        return self._value


@pytest.fixture
def child(server: Server) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Runs Python code in a process of its own, with `client`; what it prints is a line of its stdout."""
    children: list[subprocess.Popen[str]] = []
    imports = "import redis\nfrom pytest_redisq.queues import *\nfrom pytest_redisq.queues import drain_file\n"
    head = f"{imports}client = redis.Redis.from_url({str(server.url)!r})\n"

    def begin(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", head + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        children.append(process)
        return process

    yield begin
    for process in children:
        process.kill()
        process.communicate()
