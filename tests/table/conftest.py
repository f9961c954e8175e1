"""A server for the tables, empty for each row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_redisq.servers import Server, start
from tests.support import local


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    server = start(local(persistence="aof"))
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: Server) -> Server:
    with shared_server.client() as client:
        client.flushall()
    return shared_server
