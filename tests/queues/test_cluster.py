"""On a cluster, every command and script of a queue stays within the slot of its key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from pytest_redisq.options import Settings
from pytest_redisq.queues import BlockingList, ReliableList, Stream, StreamGroup, drain, drain_to_file
from pytest_redisq.servers import start
from tests.support import IMAGE, eventually, local_kind


@pytest.fixture(scope="module")
def node() -> Iterator[redis.Redis]:
    """A cluster of one node, which refuses what would touch two slots."""
    kind = os.environ.get("REDISQ_SERVER") or local_kind()
    image = IMAGE if kind == "docker" else None
    server = start(Settings(server=kind, image=image, server_args=("--cluster-enabled", "yes")))
    try:
        with server.client() as client:
            client.cluster("ADDSLOTSRANGE", 0, 16383)
            eventually(lambda: client.cluster("INFO")["cluster_state"] == "ok")
            with pytest.raises(redis.ResponseError, match="don't hash to the same slot"):
                client.mset({"a": 1, "b": 2})
            yield client
    finally:
        server.stop()


@pytest.mark.parametrize("key", ["jobs", "{shop}jobs"])
@pytest.mark.parametrize("kind", [BlockingList, ReliableList, Stream, StreamGroup])
def test_every_queue(node: redis.Redis, kind: Any, key: str) -> None:
    node.flushall()
    queue = kind(key, "group") if kind is StreamGroup else kind(key)
    with queue.bind(node) as worker, queue.bind(node) as other:
        worker.subscribe()
        worker.put(b"a")
        delivery = worker.get(1)
        assert delivery is not None
        assert delivery.body == b"a"
        other.recover()
        worker.give_back(delivery)
        worker.remaining()
        worker.pending()


@pytest.mark.parametrize("key", ["jobs", "{shop}jobs"])
def test_drains(node: redis.Redis, key: str, tmp_path: Path) -> None:
    node.flushall()
    node.rpush(key, *range(30))
    chunks = drain(node, key, chunk=10)
    next(chunks)
    chunks.close()
    assert drain_to_file(node, key, tmp_path / "out").elements == 30
    assert node.dbsize() == 0
