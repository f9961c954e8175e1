"""S1's loop, twice on one list: LRANGE, then LTRIM of as many."""

from typing import Any

from pytest_redisq.load.deliveries import LIST
from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.consumer_clients import LpopClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import ListDrain
from pytest_redisq.resp import encode_command


class LookThenTrim(LpopClient):
    """Takes turns: LRANGE 0 n-1 and, once it has them, LTRIM n -1."""

    def __init__(self, *args: Any, key: str, **options: Any) -> None:
        super().__init__(*args, key, **options)
        self._list, self._trim = key, 0

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        if self._trim:
            return encode_command(["LTRIM", self._list, self._trim, -1])
        return encode_command(["LRANGE", self._list, 0, 99])

    def reply(self, reply: Any, now_ns: int) -> int | None:
        if self._trim:
            self._trim = 0
            return 0
        self._trim = len(reply)
        return super().reply(reply or None, now_ns)

    def has_unacked(self) -> bool:
        return self._trim > 0


class TwoDrainers(ListDrain):
    def consumer(self, context: LoadContext, index: int) -> LoadClient:  # noqa: ARG002
        return LookThenTrim(context.delivery_buffer(LIST), key=context.key("list"), name="LRANGE list")


EngineUser, ProducerUser, ConsumerUser = users_of(TwoDrainers())
