"""A list that changes while it is read: another client moves its head to its tail, as in a rotating queue."""

from pytest_redisq.load.engine.clients import LoadClient, RepeatingClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import LrangePayload


class Shifting(LrangePayload):
    def producer(self, context: LoadContext, index: int) -> LoadClient:  # noqa: ARG002
        key = context.key("list")
        return RepeatingClient(("LMOVE", key, key, "LEFT", "RIGHT"), name="LMOVE list")


EngineUser, ProducerUser, ConsumerUser = users_of(Shifting(elements=1000, chunk=100))
