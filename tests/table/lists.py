"""Correct queues of lists, as people write them; saboteurs are made of them by one change."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import redis

#: Seconds that a lease lasts.
LEASE_SECONDS = 0.3


def polled(look: Callable[[], Any], timeout_seconds: float) -> Any:
    """Return what `look` finds within that time, looking every ten milliseconds; None if nothing."""
    deadline = time.monotonic() + timeout_seconds
    while (found := look()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


class Blpop:
    """RPUSH and BLPOP: at most once."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def put(self, body: bytes) -> Any:
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> Any:
        popped = self.client.blpop(["jobs"], timeout_seconds or 0.01)
        return popped and popped[1]


class Brpop(Blpop):
    """The other way round."""

    def put(self, body: bytes) -> None:
        self.client.lpush("jobs", body)

    def get(self, timeout_seconds: float) -> Any:
        popped = self.client.brpop(["jobs"], timeout_seconds or 0.01)
        return popped and popped[1]


class LpopPolling(Blpop):
    def get(self, timeout_seconds: float) -> Any:
        return polled(lambda: self.client.lpop("jobs"), timeout_seconds)


class PriorityLists(Blpop):
    """Every third message is urgent."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.count = itertools.count()

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs" if next(self.count) % 3 else "jobs:urgent", body)

    def get(self, timeout_seconds: float) -> Any:
        popped = self.client.blpop(["jobs:urgent", "jobs"], timeout_seconds or 0.01)
        return popped and popped[1]


class ShardedLists(Blpop):
    """Three lists; each consumer takes from all."""

    shards = ("jobs:0", "jobs:1", "jobs:2")

    def put(self, body: bytes) -> None:
        self.client.rpush(f"jobs:{sum(body) % 3}", body)

    def get(self, timeout_seconds: float) -> Any:
        popped = self.client.blpop([*self.shards], timeout_seconds or 0.01)
        return popped and popped[1]


class BatchPop(Blpop):
    """Pops five at once and hands them out one by one: a batch dies with its consumer."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.batch: list[bytes] = []

    def get(self, timeout_seconds: float) -> Any:
        if not self.batch:
            self.batch = polled(lambda: self.client.lpop("jobs", 5), timeout_seconds) or []
        return self.batch.pop(0) if self.batch else None


class TransactionalPut(Blpop):
    """MULTI/EXEC of a push and a counter."""

    def put(self, body: bytes) -> None:
        with self.client.pipeline(transaction=True) as pipe:
            pipe.rpush("jobs", body)
            pipe.incr("jobs:count")
            pipe.execute()


class BackPressure(Blpop):
    """A producer waits while the list is full."""

    def put(self, body: bytes) -> None:
        while self.client.llen("jobs") >= 20:
            time.sleep(0.005)
        self.client.rpush("jobs", body)


class RateLimited(Blpop):
    """At most so many messages are taken in each tenth of a second, by a counter that expires."""

    def get(self, timeout_seconds: float) -> Any:
        return polled(self._take, timeout_seconds)

    def _take(self) -> Any:
        name = f"rate:{int(time.time() * 10)}"
        with self.client.pipeline() as pipe:
            count = pipe.incr(name).expire(name, 5).execute()[0]
        return self.client.lpop("jobs") if count <= 50 else None


class BodiesBeside(Blpop):
    """The list has names; each body is a key of its own, taken with GETDEL."""

    def put(self, body: bytes) -> None:
        name = self.client.incr("names")
        self.client.set(f"body:{name}", body)
        self.client.rpush("jobs", name)

    def get(self, timeout_seconds: float) -> Any:
        name = super().get(timeout_seconds)
        return name and self.client.getdel(f"body:{name.decode()}")


class Reliable(Blpop):
    """BLMOVE to a list of each worker, LREM as ack; a worker whose sign of life has expired is robbed by the others."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.held = f"held:{self.client.incr('names')}"
        self.client.sadd("workers", self.held)

    def get(self, timeout_seconds: float) -> Any:
        self.client.set(f"alive:{self.held}", 1, px=int(LEASE_SECONDS * 1000 + timeout_seconds * 1000))
        self.recover()
        return self.client.blmove("jobs", self.held, timeout_seconds or 0.01, "LEFT", "RIGHT")

    def ack(self, body: bytes) -> Any:
        return bool(self.client.lrem(self.held, 1, body))

    def recover(self) -> None:
        for name in sorted(self.client.smembers("workers")):
            if not self.client.exists(b"alive:" + name):
                while self.client.lmove(name, "jobs", "RIGHT", "LEFT"):
                    pass


ONCE = """
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', 600) then redis.call('RPUSH', KEYS[1], ARGV[1]) return 1 end
return 0
"""


class PutOnce(Reliable):
    """A producer tries again after an error; a script drops what is there already. A consumer whose connection broke
    begins as another one: what the lost reply had is in the list of the first.
    """

    def put(self, body: bytes) -> None:
        name = f"once:{body.hex()}"
        for attempt in range(20):
            try:
                self.client.eval(ONCE, 2, "jobs", name, body)
                return
            except redis.ConnectionError:
                if attempt == 19:
                    raise
                time.sleep(0.01)

    def get(self, timeout_seconds: float) -> Any:
        try:
            return super().get(timeout_seconds)
        except redis.ConnectionError:
            super().__init__(self.client)
            raise


class ReliablePolling(Reliable):
    """The same by RPOPLPUSH, the old command."""

    def put(self, body: bytes) -> None:
        self.client.lpush("jobs", body)

    def get(self, timeout_seconds: float) -> Any:
        self.client.set(f"alive:{self.held}", 1, px=int(LEASE_SECONDS * 1000 + timeout_seconds * 1000))
        self.recover()
        return polled(lambda: self.client.rpoplpush("jobs", self.held), timeout_seconds)


LEASED = """
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1])
for _, body in ipairs(due) do redis.call('ZREM', KEYS[2], body) redis.call('RPUSH', KEYS[1], body) end
local body = redis.call('LPOP', KEYS[1])
if body then redis.call('ZADD', KEYS[2], ARGV[2], body) end
return body
"""


class LeasedList(Blpop):
    """A script pops and notes the end of the lease in a sorted set, and puts back what was not acknowledged in time."""

    def get(self, timeout_seconds: float) -> Any:
        return polled(self._take, timeout_seconds)

    def _take(self) -> Any:
        now = time.time()
        return self.client.eval(LEASED, 2, "jobs", "leases", now, now + LEASE_SECONDS)

    def ack(self, body: bytes) -> Any:
        return bool(self.client.zrem("leases", body))


class RetriesLater(Reliable):
    """What is given back waits in a sorted set; here nothing is, but consumers look there first."""

    def get(self, timeout_seconds: float) -> Any:
        for body in self.client.zrangebyscore("later", "-inf", time.time()):
            if self.client.zrem("later", body):
                self.client.rpush("jobs", body)
        return super().get(timeout_seconds)


class SharedObject:
    """One object for all workers, with a client of its own."""

    def __init__(self, url: str) -> None:
        self.client: Any = redis.Redis.from_url(url)

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> Any:
        popped = self.client.blpop(["jobs"], timeout_seconds or 0.01)
        return popped and popped[1]


class AsyncBlpop:
    def __init__(self, client: Any) -> None:
        self.client = client

    async def put(self, body: bytes) -> None:
        await self.client.rpush("jobs", body)

    async def get(self, timeout_seconds: float) -> Any:
        popped = await self.client.blpop(["jobs"], timeout_seconds or 0.01)
        return popped and popped[1]


class AsyncReliable(AsyncBlpop):
    """One list of what is being worked on, given back when a worker starts: a live worker's message may come again."""

    started = False

    async def get(self, timeout_seconds: float) -> Any:
        if not self.started:
            self.started = True
            while await self.client.lmove("held", "jobs", "RIGHT", "LEFT"):
                pass
        return await self.client.blmove("jobs", "held", timeout_seconds or 0.01, "LEFT", "RIGHT")

    async def ack(self, body: bytes) -> Any:
        return bool(await self.client.lrem("held", 1, body))


def push(client: Any, body: bytes) -> None:
    client.rpush("jobs", body)


def pop(client: Any, timeout_seconds: float) -> Any:
    popped = client.blpop(["jobs"], timeout_seconds or 0.01)
    return popped and popped[1]


async def push_async(client: Any, body: bytes) -> None:
    await client.rpush("jobs", body)


async def pop_async(client: Any, timeout_seconds: float) -> Any:
    popped = await client.blpop(["jobs"], timeout_seconds or 0.01)
    return popped and popped[1]
