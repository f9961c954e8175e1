"""A scenario that fails when its actors are made."""

from pytest_redisq.load.actors import Actor
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.scenario import BlpopWorkers
from pytest_redisq.load.users import users_of


class Stumbling(BlpopWorkers):
    def consumer(self, desk: Desk, index: int) -> Actor:  # noqa: ARG002
        raise KeyError(f"no such desk: {index}")


SwarmUser, ProducerUser, ConsumerUser = users_of(Stumbling())
