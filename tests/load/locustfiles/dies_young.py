"""BLPOP workers of whom the second process is killed before it has connected."""

import os
import signal

from pytest_redisq.load.actors import Actor
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.scenario import BlpopWorkers
from pytest_redisq.load.users import users_of


class Mortal(BlpopWorkers):
    def consumer(self, desk: Desk, index: int) -> Actor:
        if desk.plan.worker == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().consumer(desk, index)


SwarmUser, ProducerUser, ConsumerUser = users_of(Mortal())
