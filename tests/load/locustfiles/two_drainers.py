"""S1's loop, twice on one list: LRANGE, then LTRIM of as many."""

from typing import Any

from pytest_redisq.load.actors import Actor, Drainer
from pytest_redisq.load.deliveries import LIST
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.scenario import Drain
from pytest_redisq.load.users import users_of
from pytest_redisq.resp import encode_command


class LookThenTrim(Drainer):
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

    def owes(self) -> bool:
        return self._trim > 0


class TwoDrainers(Drain):
    def consumer(self, desk: Desk, index: int) -> Actor:  # noqa: ARG002
        return LookThenTrim(desk.inbox(LIST), key=desk.key("list"), name="LRANGE list")


SwarmUser, ProducerUser, ConsumerUser = users_of(TwoDrainers())
