"""A queue that works, and cannot say what is left in it."""

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue

KEY = "redisq:load:blind"


class Blind:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def put(self, body: bytes) -> None:
        self._client.rpush(KEY, body)

    def get(self, timeout_seconds: float) -> bytes | None:
        popped = self._client.blpop([KEY], timeout_seconds)
        return popped[1] if popped else None

    def remaining(self) -> list[bytes]:
        raise RuntimeError("no such context")

    def pending(self) -> list[bytes]:
        return []

    def close(self) -> None:
        self._client.close()


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Blind, contract="effectively-once"))
