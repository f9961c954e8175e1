"""Consumers that take some time for each message: a backlog grows before them."""

import time

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


class Orders:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush("orders", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        popped = self.client.blpop(["orders"], timeout_seconds)
        return popped[1] if popped else None

    def ack(self, body: bytes) -> None:  # noqa: ARG002
        time.sleep(0.1)


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Orders, consumers=2))
