"""A stream whose `get` always raises: nothing has created its group."""

from typing import Any

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


class Jobs:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.xadd("jobs", {"body": body})

    def get(self, timeout_seconds: float) -> bytes | None:
        block_ms = round(timeout_seconds * 1000)
        reply: Any = self.client.xreadgroup("workers", "c", {"jobs": ">"}, count=1, block=block_ms)
        return reply[0][1][0][1][b"body"] if reply else None


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Jobs, contract="at-least-once"))
