"""BLPOP workers in two processes; the second process is killed before it has connected."""

import os
import signal

from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import BlpopWorkers


class Mortal(BlpopWorkers):
    def consumer(self, context: LoadContext, index: int) -> LoadClient:
        if context.assignment.worker == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().consumer(context, index)


EngineUser, ProducerUser, ConsumerUser = users_of(Mortal())
