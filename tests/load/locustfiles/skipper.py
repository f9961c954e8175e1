"""A group whose readers now and then move it to the end of the stream, past what it has not been given."""

from typing import Any

from pytest_redisq.load.actors import Actor, GroupReader
from pytest_redisq.load.burst import XaddBurst
from pytest_redisq.load.deliveries import GROUP
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.users import users_of
from pytest_redisq.resp import encode_command


class Skipper(GroupReader):
    """Every twentieth request is XGROUP SETID to the end."""

    def __init__(self, desk: Desk, index: int) -> None:
        self._setid = encode_command(["XGROUP", "SETID", desk.key("stream"), "group-0", "$"])
        self._turn = 0
        inbox = desk.inbox(GROUP, reader="group-0")
        super().__init__(inbox, desk.key("stream"), "group-0", f"skipper-{index}", name="XREADGROUP")

    def request(self, now_ns: int) -> bytes:
        self._turn += not self.owes()
        return super().request(now_ns) if self.owes() or self._turn % 20 else self._setid

    def reply(self, reply: Any, now_ns: int) -> int | None:
        return None if reply == b"OK" else super().reply(reply, now_ns)


class SkippingGroup(XaddBurst):
    def consumer(self, desk: Desk, index: int) -> Actor:
        return Skipper(desk, index)


SwarmUser, ProducerUser, ConsumerUser = users_of(SkippingGroup(readers=0, groups=1, consumers=3))
