"""GET and nothing else, in Locust by either engine. No message is sent, so that nothing can be judged."""

from pytest_redisq.load.actors import Actor, Repeater
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.scenario import BlpopWorkers
from pytest_redisq.load.users import users_of


class GetOnly(BlpopWorkers):
    def producer(self, desk: Desk, index: int) -> Actor:  # noqa: ARG002
        return Repeater(("GET", "k"), name="GET k", pipeline=desk.plan.pipeline)


SwarmUser, ProducerUser, ConsumerUser = users_of(GetOnly(consumers=0))
