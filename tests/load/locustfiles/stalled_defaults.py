"""RPUSH and BLPOP by redis-py as it comes: time-outs, and retries after them."""

import os

import redis
from redis.connection import parse_url

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


class Jobs:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush("redisq:load:jobs", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        popped = self.client.blpop(["redisq:load:jobs"], timeout_seconds)
        return popped[1] if popped else None

    def remaining(self) -> list[bytes]:
        return self.client.lrange("redisq:load:jobs", 0, -1)

    def pending(self) -> list[bytes]:
        return []

    def close(self) -> None:
        self.client.close()


def as_it_comes(url: str) -> redis.Redis:
    """Its retries are those of the constructor; `from_url` makes none. A shorter timeout only saves us time."""
    return redis.Redis(**parse_url(url), socket_timeout=float(os.environ["SOCKET_TIMEOUT"]))


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Jobs, client=as_it_comes, contract="effectively-once"))
