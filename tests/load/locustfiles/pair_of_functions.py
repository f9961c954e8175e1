"""A queue as a pair of functions of a client."""

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


def produce(client: redis.Redis, body: bytes) -> None:
    client.rpush("orders", body)


def consume(client: redis.Redis, timeout_seconds: float) -> bytes | None:
    popped = client.blpop(["orders"], timeout_seconds)
    return popped[1] if popped else None


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue((produce, consume), contract="effectively-once"))
