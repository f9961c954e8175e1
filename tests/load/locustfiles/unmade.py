"""A queue that cannot be made."""

import redis

from pytest_redisq.load.scenario import OwnQueue
from pytest_redisq.load.users import users_of


class Unmade:
    def __init__(self, client: redis.Redis) -> None:  # noqa: ARG002
        raise RuntimeError("no such broker")


SwarmUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Unmade))
