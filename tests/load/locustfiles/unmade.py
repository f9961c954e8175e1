"""A queue that cannot be made."""

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


class Unmade:
    def __init__(self, client: redis.Redis) -> None:  # noqa: ARG002
        raise RuntimeError("no such broker")


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Unmade))
