"""huey under the conformance kit: its own storage, by LPUSH and BRPOP, on the kit's connections."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey
from redis import Redis

from pytest_redisq import conformance


class Huey:
    """A huey for one worker."""

    def __init__(self, client: Redis) -> None:
        self.huey = RedisHuey("jobs", connection_pool=client.connection_pool)
        self.work = self.huey.task(name="work")(lambda body: body)

    def put(self, body: bytes) -> str:
        task: Any = self.work.s(body)
        self.huey.enqueue(task)
        return str(task.id)

    def get(self, timeout_seconds: float) -> bytes | None:
        storage: Any = self.huey.storage
        storage.blocking, storage.read_timeout = timeout_seconds > 0, timeout_seconds
        task = self.huey.dequeue()
        return None if task is None else task.args[0]


# huey pops a task before it runs it: a killed worker loses its task. So "at-least-once" fails if a worker is killed.
TestHuey = conformance(Huey, contract="at-most-once, fifo", workers=("thread", "process"))
