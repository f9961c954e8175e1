"""A list whose first consumer, with DEAF=1, takes nothing any more once it has lost its connection."""

import itertools
import os
import time

import redis

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


class Jobs:
    made = itertools.count()

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.asked = self.lost = self.prone = False

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        if not self.asked:
            self.asked = True
            self.prone = bool(os.environ.get("DEAF")) and next(self.made) == 0
        if self.lost:
            time.sleep(timeout_seconds)
            return None
        try:
            popped = self.client.blpop(["jobs"], timeout_seconds)
        except redis.ConnectionError:
            self.lost = self.prone
            return None
        return popped and popped[1]  # type: ignore[index,return-value]


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Jobs, consumers=2, contract="at-most-once, live=2s"))
