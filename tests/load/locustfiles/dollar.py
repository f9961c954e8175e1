"""S2's loop: every XREAD asks for `$`, what comes after what is there by now."""

from pytest_redisq.load.actors import Actor, FanReader
from pytest_redisq.load.deliveries import READER
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.scenario import XaddFanout
from pytest_redisq.load.users import users_of


class DollarReader(FanReader):
    __slots__ = ()

    def request(self, now_ns: int) -> bytes:
        self._last = b"$"
        return super().request(now_ns)


class Dollar(XaddFanout):
    def consumer(self, desk: Desk, index: int) -> Actor:
        inbox = desk.own_inbox(READER, reader=f"reader-{desk.plan.first_consumer + index}")
        return DollarReader(inbox, desk.key("stream"), name="XREAD stream")


SwarmUser, ProducerUser, ConsumerUser = users_of(Dollar())
