"""A list that changes while it is read: somebody moves its head to its tail, as a rotating queue would."""

from pytest_redisq.load.actors import Actor, Repeater
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.scenario import LrangePayload
from pytest_redisq.load.users import users_of


class Shifting(LrangePayload):
    def producer(self, desk: Desk, index: int) -> Actor:  # noqa: ARG002
        key = desk.key("list")
        return Repeater(("LMOVE", key, key, "LEFT", "RIGHT"), name="LMOVE list")


SwarmUser, ProducerUser, ConsumerUser = users_of(Shifting(elements=1000, chunk=100))
