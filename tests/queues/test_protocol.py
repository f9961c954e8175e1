"""The supplied queues are what the protocol says, in both faces."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
import redis

from pytest_redisq.queues import AsyncQueue, BlockingList, Queue, ReliableList, Stream, StreamGroup
from pytest_redisq.servers import Server

QUEUES = [BlockingList("q"), ReliableList("q"), Stream("q"), StreamGroup("q", "g")]
METHODS = ("ack", "give_back", "subscribe", "stop", "bind", "recover", "remaining", "pending", "trimmed", "close")


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: type(queue).__name__)
class TestEachQueue:
    def test_has_every_method_for_both_kinds_of_client(self, queue: Any, server: Server, client: redis.Redis) -> None:
        with queue.bind(client) as end:
            assert isinstance(end, Queue)
            assert all(callable(getattr(end, name)) for name in METHODS)

        async def asynchronously() -> None:
            async with server.async_client() as asyncio_client, queue.bind(asyncio_client) as end:
                assert isinstance(end, AsyncQueue)
                assert all(callable(getattr(end, name)) for name in METHODS)

        asyncio.run(asynchronously())

    def test_pickles_without_its_client(self, queue: Any, client: redis.Redis) -> None:
        with queue.bind(client) as end:
            assert pickle.loads(pickle.dumps(end)) == queue == pickle.loads(pickle.dumps(queue))

    def test_carries_any_bytes(self, queue: Any, client: redis.Redis) -> None:
        bodies = [b"", b"\x00\xff\r\n", b"$-1\r\n", bytes(range(256)) * 300]
        with queue.bind(client) as end:
            end.subscribe()
            for body in bodies:
                end.put(body)
            deliveries = [end.get(1) for _ in bodies]
            assert [delivery.body for delivery in deliveries] == bodies
            assert [end.ack(delivery) for delivery in deliveries] == [True] * len(bodies)
            assert (end.remaining(), end.pending(), end.trimmed()) == ([], [], [])

    def test_says_what_it_is(self, queue: Any, client: redis.Redis) -> None:
        with queue.bind(client) as end:
            assert repr(end).startswith(f"{queue!r}.bind(")
