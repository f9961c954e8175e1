"""A typical locustfile for Redis: a `redis.Redis` for each user, and an event for each call."""

import os
import time

import redis
from locust import User, task


class PlainUser(User):
    def on_start(self) -> None:
        self.client = redis.Redis.from_url(os.environ["REDIS_URL"])
        self.words = os.environ["LOCUST_COMMAND"].split()

    @task
    def call(self) -> None:
        began, error, reply = time.perf_counter(), None, None
        try:
            reply = self.client.execute_command(*self.words)
        except redis.RedisError as raised:
            error = raised
        self.environment.events.request.fire(
            request_type=self.words[0],
            name="plain",
            response_time=(time.perf_counter() - began) * 1000,
            response_length=len(str(reply)),
            exception=error,
            context={},
        )
