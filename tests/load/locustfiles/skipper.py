"""A group whose readers now and then move it to the end of the stream, past what it has not been given."""

from typing import Any

from pytest_redisq.load.deliveries import GROUP
from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.consumer_clients import XreadgroupClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import XaddBurst
from pytest_redisq.resp import encode_command


class Skipper(XreadgroupClient):
    """Every twentieth request is XGROUP SETID to the end."""

    def __init__(self, context: LoadContext, index: int) -> None:
        self._setid = encode_command(["XGROUP", "SETID", context.key("stream"), "group-0", "$"])
        self._turn = 0
        buffer = context.delivery_buffer(GROUP, reader="group-0")
        super().__init__(buffer, context.key("stream"), "group-0", f"skipper-{index}", name="XREADGROUP")

    def request(self, now_ns: int) -> bytes:
        self._turn += not self.has_unacked()
        return super().request(now_ns) if self.has_unacked() or self._turn % 20 else self._setid

    def reply(self, reply: Any, now_ns: int) -> int | None:
        return None if reply == b"OK" else super().reply(reply, now_ns)


class SkippingGroup(XaddBurst):
    def consumer(self, context: LoadContext, index: int) -> LoadClient:
        return Skipper(context, index)


EngineUser, ProducerUser, ConsumerUser = users_of(SkippingGroup(readers=0, groups=1, consumers=3))
