"""Jobs pushed to the end from which they are taken: the last comes first."""

from pytest_redisq.load.actors import Actor
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.scenario import BlpopWorkers
from pytest_redisq.load.users import users_of


class LastFirst(BlpopWorkers):
    def producer(self, desk: Desk, index: int) -> Actor:
        return desk.pusher(index, ("LPUSH", desk.key("jobs:0")), name="LPUSH jobs")


SwarmUser, ProducerUser, ConsumerUser = users_of(LastFirst(contract="effectively-once, fifo", consumers=2))
