"""Jobs pushed to the end from which they are taken: the last comes first."""

from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import BlpopWorkers


class LastFirst(BlpopWorkers):
    def producer(self, context: LoadContext, index: int) -> LoadClient:
        return context.push_client(index, ("LPUSH", context.key("jobs:0")), name="LPUSH jobs")


EngineUser, ProducerUser, ConsumerUser = users_of(LastFirst(contract="effectively-once, fifo", consumers=2))
