"""BLPOP workers with a process that keeps the run's output open after Locust has ended."""

import subprocess

from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import BlpopWorkers


class Outlived(BlpopWorkers):
    def consumer(self, context: LoadContext, index: int) -> LoadClient:
        if index == 0:
            subprocess.Popen(["sleep", "600"])
        return super().consumer(context, index)


EngineUser, ProducerUser, ConsumerUser = users_of(Outlived())
