"""A queue that hands its messages out late, all of them or, with DROPS=1, all but every hundredth."""

import itertools
import os
import time

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue

DELAY_SECONDS = 2.0


class Orders:
    puts = itertools.count(1)

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        if not os.environ.get("DROPS") or next(self.puts) % 100:
            self.client.zadd("orders", {body: time.time() + DELAY_SECONDS})

    def get(self, timeout_seconds: float) -> bytes | None:
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            due: list[bytes] = self.client.zrange("orders", "-inf", time.time(), byscore=True, offset=0, num=1)
            if due and self.client.zrem("orders", due[0]):
                return due[0]
            time.sleep(0.01)
        return None


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Orders))
