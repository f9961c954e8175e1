"""A list whose `put` raises, each time with another text, after each worker has put so many messages as AFTER says."""

import os

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


class Jobs:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.left = int(os.environ.get("AFTER", "0"))

    def put(self, body: bytes) -> None:
        if not self.left:
            raise ValueError(f"refused {body!r}")
        self.left -= 1
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        popped = self.client.blpop(["jobs"], timeout_seconds)
        return popped[1] if popped else None


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Jobs, contract="at-most-once"))
