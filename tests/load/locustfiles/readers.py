"""Users of the locustfile's own; with BESIDE=1, beside a scenario."""

import os

from locust import constant, task

from pytest_redisq.load.locust_run.users import RedisUser, users_of
from pytest_redisq.load.scenarios import BlpopWorkers

if os.environ.get("BESIDE"):
    EngineUser, ProducerUser, ConsumerUser = users_of(BlpopWorkers())


class Reader(RedisUser):
    wait_time = constant(0.01)
    fixed_count = 3

    @task
    def get(self) -> None:
        self.command("GET", "redisq:page", name="page")


class Writer(RedisUser):
    wait_time = constant(0.01)

    @task
    def set(self) -> None:
        self.command("LPUSH" if os.environ.get("WRONG") else "SET", "redisq:page", "x", name="page")
