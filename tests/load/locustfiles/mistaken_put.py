"""A queue whose `put` has a typing error, and whose text differs in each exception of its `get`."""

import itertools

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


class Orders:
    gets = itertools.count()

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.clent.rpush("orders", body)

    def get(self, timeout_seconds: float) -> bytes | None:  # noqa: ARG002
        raise ValueError(f"attempt {next(self.gets)}")


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Orders))
