"""A sender whose every hundredth message has a byte changed under way."""

from pytest_redisq.load.engine.clients import LoadClient, PushClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import BlpopWorkers


class Garbler(PushClient):
    __slots__ = ()

    def request(self, now_ns: int) -> bytearray:
        request = bytearray(super().request(now_ns))  # a copy: not all of a buffer is written anew
        if self.sent % 100 == 0:
            request[-10] ^= 1
        return request


class Garbled(BlpopWorkers):
    def producer(self, context: LoadContext, index: int) -> LoadClient:
        push_client = context.push_client(index, ("RPUSH", context.key("jobs:0")), name="RPUSH jobs")
        push_client.__class__ = Garbler
        return push_client


EngineUser, ProducerUser, ConsumerUser = users_of(Garbled())
