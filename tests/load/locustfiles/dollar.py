"""S2's loop: every XREAD asks for `$`, what comes after what is there by now."""

from pytest_redisq.load.deliveries import READER
from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.consumer_clients import XreadClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import XaddFanout


class DollarReader(XreadClient):
    __slots__ = ()

    def request(self, now_ns: int) -> bytes:
        self._last = b"$"
        return super().request(now_ns)


class Dollar(XaddFanout):
    def consumer(self, context: LoadContext, index: int) -> LoadClient:
        buffer = context.own_delivery_buffer(READER, reader=f"reader-{context.assignment.first_consumer + index}")
        return DollarReader(buffer, context.key("stream"), name="XREAD stream")


EngineUser, ProducerUser, ConsumerUser = users_of(Dollar())
