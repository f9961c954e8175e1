"""A queue of your own: any class with `put`, `get` and perhaps `ack`, made on a client for each worker.

redisq load loadtests/own_queue.py
"""

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

    def close(self) -> None:
        self.client.close()


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Orders, contract="effectively-once"))
