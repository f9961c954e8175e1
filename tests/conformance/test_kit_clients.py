"""The kit calls a queue with what the queue needs: a client, one that the user makes, or the URL."""

from __future__ import annotations

from typing import Any

import pytest
import redis
import redis.asyncio

from pytest_redisq.errors import DeliveryError
from pytest_redisq.facade import Redisq
from pytest_redisq.properties import check_conformance

pytestmark = pytest.mark.slow

KEY = "orders"
#: A server cannot be asked to close connections that it does not know by name: those that the queue makes itself.
OPTIONS: Any = {
    "contract": "at-most-once",
    "messages": 40,
    "schedules": 4,
    "faults": ("kill:consumer", "kill-holding:consumer"),
}


class OfUrl:
    """Makes its client itself."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url, socket_timeout=None)

    def put(self, body: bytes) -> None:
        self.client.rpush(KEY, body)

    def get(self, timeout_seconds: float) -> bytes | None:
        if timeout_seconds <= 0:
            return self.client.lpop(KEY)
        found = self.client.blpop([KEY], timeout_seconds)
        return found and found[1]

    def close(self) -> None:
        self.client.close()


class Doubles(OfUrl):
    """The saboteur: it puts each message twice."""

    def put(self, body: bytes) -> None:
        self.client.rpush(KEY, body, body)


class AsyncOfUrl:
    """The same, of coroutine functions."""

    def __init__(self, url: str) -> None:
        self.client = redis.asyncio.Redis.from_url(url, socket_timeout=None)

    async def put(self, body: bytes) -> None:
        await self.client.rpush(KEY, body)

    async def get(self, timeout_seconds: float) -> bytes | None:
        if timeout_seconds <= 0:
            return await self.client.lpop(KEY)
        found = await self.client.blpop([KEY], timeout_seconds)
        return found and found[1]

    async def close(self) -> None:
        await self.client.aclose()


class OfTexts:
    """Works only with a client that decodes replies."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush(KEY, body)

    def get(self, timeout_seconds: float) -> bytes | None:
        found = (None, self.client.lpop(KEY)) if timeout_seconds <= 0 else self.client.blpop([KEY], timeout_seconds)
        text = found and found[1]
        assert text is None or isinstance(text, str)
        return text and text.encode(errors="surrogateescape")


def decoding(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True, encoding_errors="surrogateescape", socket_timeout=None)


LEFT_OUT = {"stopping": "it has no stop"}


@pytest.mark.parametrize(("queue", "workers"), [(OfUrl, "thread"), (AsyncOfUrl, "asyncio")])
def test_a_queue_may_be_given_the_url(redisq: Redisq, queue: Any, workers: Any) -> None:
    table = check_conformance(queue, redisq, workers=(workers,), gets="url", leave_out=LEFT_OUT, **OPTIONS)
    assert "explored" in table


def test_a_queue_of_a_url_that_doubles_messages_is_caught(redisq: Redisq) -> None:
    with pytest.raises(DeliveryError, match="duplicated"):
        check_conformance(Doubles, redisq, workers=("thread",), gets="url", leave_out=LEFT_OUT, **OPTIONS)


def test_a_queue_may_be_given_clients_of_the_users(redisq: Redisq) -> None:
    table = check_conformance(OfTexts, redisq, workers=("thread",), client=decoding, leave_out=LEFT_OUT, **OPTIONS)
    assert "explored" in table
