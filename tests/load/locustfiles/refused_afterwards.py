"""The second command of a put gets an error reply; the message is in the queue all the same."""

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


class Orders:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.number = 0

    def put(self, body: bytes) -> None:
        self.client.rpush("orders", body)
        self.number += 1
        if self.number % 5 == 0:
            self.client.setbit("flags", -1, 1)  # no such offset: it changes nothing

    def get(self, timeout_seconds: float) -> bytes | None:
        popped = self.client.blpop(["orders"], timeout_seconds)
        return popped[1] if popped else None


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Orders, contract="effectively-once"))
