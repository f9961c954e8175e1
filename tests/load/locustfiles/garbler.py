"""A sender whose every hundredth message has a byte changed under way."""

from pytest_redisq.load.actors import Actor, Pusher
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.scenario import BlpopWorkers
from pytest_redisq.load.users import users_of


class Garbler(Pusher):
    __slots__ = ()

    def request(self, now_ns: int) -> bytearray:
        request = bytearray(super().request(now_ns))  # a copy: not all of a buffer is written anew
        if self.sent % 100 == 0:
            request[-10] ^= 1
        return request


class Garbled(BlpopWorkers):
    def producer(self, desk: Desk, index: int) -> Actor:
        pusher = desk.pusher(index, ("RPUSH", desk.key("jobs:0")), name="RPUSH jobs")
        pusher.__class__ = Garbler
        return pusher


SwarmUser, ProducerUser, ConsumerUser = users_of(Garbled())
