"""A scenario that only sends GET. No message is sent, so nothing can be judged."""

from pytest_redisq.load.engine.clients import LoadClient, RepeatingClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import BlpopWorkers


class GetOnly(BlpopWorkers):
    def producer(self, context: LoadContext, index: int) -> LoadClient:  # noqa: ARG002
        return RepeatingClient(("GET", "k"), name="GET k", pipeline=context.assignment.pipeline)


EngineUser, ProducerUser, ConsumerUser = users_of(GetOnly(consumers=0))
