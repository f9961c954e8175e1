"""A scenario that fails when its clients are made."""

from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import BlpopWorkers


class Stumbling(BlpopWorkers):
    def consumer(self, context: LoadContext, index: int) -> LoadClient:  # noqa: ARG002
        raise KeyError(f"no such context: {index}")


EngineUser, ProducerUser, ConsumerUser = users_of(Stumbling())
