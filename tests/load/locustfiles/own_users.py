"""A user's locustfile with `RedisUser`: the events that Locust gets for each command."""

import redis
from locust import task
from locust.exception import StopUser

from pytest_redisq.load.codec import BodyCodec, now_ns, sent_ns
from pytest_redisq.load.locust_run.users import RedisUser

KEY = "redisq:own-users"


class Somebody(RedisUser):
    @task
    def live(self) -> None:
        self.command("SET", KEY, b"x" * 1000, name="page")
        self.command("GET", KEY)
        try:
            self.command("RPUSH", KEY, b"wrong type")
        except redis.ResponseError:
            self.command("DEL", KEY)
        self.command("BLPOP", KEY, 0.3, pushed_ns=lambda _: 0)  # comes back empty, after 300 ms of idleness
        self.command("RPUSH", f"{KEY}:jobs", BodyCodec(1).writer()(1, now_ns()), name="jobs")
        self.command("BLPOP", f"{KEY}:jobs", 0, name="jobs", pushed_ns=lambda reply: sent_ns(reply[1]))
        self.environment.runner.quit()  # all events are reported, so the run can end
        raise StopUser
