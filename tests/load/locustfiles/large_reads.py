"""A consumer whose first reads have replies that are larger than the server may buffer."""

import itertools

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


class Whole:
    reads = itertools.count(1)

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        if next(self.reads) < 4:
            self.client.getrange("large", 0, -1)
        popped = self.client.blpop(["jobs"], timeout=timeout_seconds)
        return None if popped is None else popped[1]  # type: ignore[index]


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Whole, producers=1, consumers=1))
