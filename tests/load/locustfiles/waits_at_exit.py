"""BLPOP workers whose process waits at its exit for a child that does not end, as Locust's master for a worker."""

import atexit
import subprocess

from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import BlpopWorkers


class Waits(BlpopWorkers):
    def consumer(self, context: LoadContext, index: int) -> LoadClient:
        if index == 0:
            atexit.register(subprocess.Popen(["sleep", "600"]).wait)
        return super().consumer(context, index)


EngineUser, ProducerUser, ConsumerUser = users_of(Waits())
