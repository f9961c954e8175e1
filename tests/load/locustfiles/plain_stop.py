"""Typical BLPOP workers for Locust, and Locust's own stop, which kills them inside BLPOP."""

import json

import redis
from locust import User, events, task

from pytest_redisq.check import Contract, check
from pytest_redisq.load.bitmap_evidence import BitmapEvidence
from pytest_redisq.load.codec import BodyCodec, key_of, now_ns
from pytest_redisq.load.deliveries import LIST
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.locust_run.users import RedisUser
from pytest_redisq.report import verdict_data

KEY = "redisq:load:plain"
ledger, codec = Ledger(), BodyCodec(7)
buffer, write = DeliveryBuffer(ledger, codec, coverage=LIST), codec.writer()


class Sender(User):
    fixed_count = 20

    def on_start(self) -> None:
        self.client = redis.Redis.from_url(self.environment.parsed_options.redis_url)
        self.number = len(ledger.attempted)
        ledger.attempt(self.number, 0)

    @task
    def send(self) -> None:
        sequence = ledger.attempt(self.number)
        try:
            self.client.rpush(KEY, write(key_of(self.number, sequence), now_ns()))
        except BaseException:
            ledger.forget(self.number, sequence)
            raise


class Worker(RedisUser):
    fixed_count = 100

    @task
    def work(self) -> None:
        buffer.take(self.command("BLPOP", KEY, 0)[1], now_ns())


@events.init.add_listener
def spawn_all(environment, **_) -> None:
    environment.parsed_options.num_users = environment.parsed_options.spawn_rate = 120


# After `test_stop`, when the report of a locustfile without a scenario is written: this one takes its place.
@events.quitting.add_listener
def tell(environment, **_) -> None:
    buffer.flush()
    client = redis.Redis.from_url(environment.parsed_options.redis_url)
    for body in client.lrange(KEY, 0, -1):
        ledger.remaining.add(codec.read(body).key)
    client.delete(KEY)
    verdict = check(BitmapEvidence(ledger), Contract.parse("effectively-once"))
    told = {"exit_code": int(verdict.outcome == "fail"), "verdict": verdict_data(verdict)}
    with open(environment.parsed_options.redisq_report, "w") as file:
        json.dump(told, file)
