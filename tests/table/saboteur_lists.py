"""Queues of lists, each with one fault that people make."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from typing import Any

import redis

from pytest_redisq.model import Message, encode_body
from tests.table.lists import AsyncBlpop, BatchPop, Blpop, BodiesBeside, Reliable, ShardedLists, polled

#: Longer bodies are lost by `LosesLarge`, in bytes.
LARGE_BYTES = 65_536


class Counts(Blpop):
    """Counts what passes through a worker, from 1."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.count = itertools.count(1)


class DropsEveryThird(Counts):
    def put(self, body: bytes) -> None:
        if next(self.count) % 3:
            super().put(body)


class DropsTheLast(Blpop):
    """A producer sends what it was given before; its last message never."""

    waiting: bytes | None = None

    def put(self, body: bytes) -> None:
        before, self.waiting = self.waiting, body
        if before is not None:
            super().put(before)


class DropsTheFirst(Counts):
    """Each consumer throws its first message away."""

    def get(self, timeout_seconds: float) -> Any:
        body = super().get(timeout_seconds)
        return super().get(timeout_seconds) if body and next(self.count) == 1 else body


class LosesLarge(Blpop):
    def put(self, body: bytes) -> None:
        if len(body) <= LARGE_BYTES:
            super().put(body)


class LosesOnReconnect(BatchPop):
    """What it has popped before its connection broke is forgotten with the connection."""

    connection: Any = None

    def get(self, timeout_seconds: float) -> Any:
        before, self.connection = self.connection, self.client.client_id()
        if before != self.connection:
            self.batch = []
        if not self.batch:
            self.batch = polled(lambda: self.client.lpop("jobs", 50), timeout_seconds) or []
        return self.batch.pop(0) if self.batch else None


class PutsAgain(Blpop):
    """A producer tries again after each error, also if the first try took effect."""

    def put(self, body: bytes) -> None:
        for _ in range(20):
            with contextlib.suppress(redis.ConnectionError):
                super().put(body)
                return


class PutsTwice(Counts):
    def put(self, body: bytes) -> None:
        for _ in range(1 + (next(self.count) % 3 == 1)):
            super().put(body)


class GetsTwice(Counts):
    """Hands a message out again."""

    again: Any = None

    def get(self, timeout_seconds: float) -> Any:
        if self.again is not None:
            again, self.again = self.again, None
            return again
        body = super().get(timeout_seconds)
        self.again = body if body and next(self.count) % 3 == 1 else None
        return body


class FlipsABit(Counts):
    """One bit in ten thousand comes out wrong."""

    bits = 0

    def get(self, timeout_seconds: float) -> Any:
        body = super().get(timeout_seconds)
        self.bits += 8 * len(body or b"")
        if body is None or self.bits < 10_000:
            return body
        self.bits -= 10_000
        return body[:-1] + bytes([body[-1] ^ 1])


class Truncates(Blpop):
    """A column that is too short."""

    def put(self, body: bytes) -> None:
        super().put(body[:30])


class Uppercases(Blpop):
    def put(self, body: bytes) -> None:
        super().put(body.upper())


class DecodesInVain(Blpop):
    """Bytes that are no text are replaced."""

    def get(self, timeout_seconds: float) -> Any:
        body = super().get(timeout_seconds)
        return body and body.decode(errors="replace")


class Invents(Counts):
    """Hands out messages that were never sent."""

    def get(self, timeout_seconds: float) -> Any:
        body = super().get(timeout_seconds)
        if body is None or next(self.count) % 5:
            return body
        run, producer, sequence = re.match(rb"rq (\S+) (\d+) (\d+)", body).groups()  # type: ignore[union-attr]
        self.client.rpush("jobs", body)
        return encode_body(run.decode(), Message(int(producer), int(sequence) + 10**6))


class SwallowsErrors(Blpop):
    def put(self, body: bytes) -> None:
        with contextlib.suppress(redis.RedisError):
            super().put(body)


class DeafAfterAFault(Blpop):
    """A consumer whose connection broke takes nothing any more."""

    deaf = False

    def put(self, body: bytes) -> None:
        for _ in range(100):
            with contextlib.suppress(redis.ConnectionError):
                super().put(body)
                return

    def get(self, timeout_seconds: float) -> Any:
        try:
            return polled(lambda: None, timeout_seconds) if self.deaf else super().get(min(timeout_seconds, 0.2))
        except redis.ConnectionError:
            self.deaf = True
            return None


class KeepsAtMostTwo(Blpop):
    """The oldest go when there are more than two."""

    def put(self, body: bytes) -> None:
        super().put(body)
        self.client.ltrim("jobs", -2, -1)


class Stack(Blpop):
    def put(self, body: bytes) -> None:
        self.client.lpush("jobs", body)


class Shards(ShardedLists):
    """Each producer's messages lie in three lists, of which the one that was filled last comes first."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.count = itertools.count()

    def put(self, body: bytes) -> None:
        self.client.rpush(f"jobs:{2 - next(self.count) % 3}", body)


class ForgetsAShard(ShardedLists):
    shards = ("jobs:0", "jobs:1")


class ReversesBatches(BatchPop):
    def get(self, timeout_seconds: float) -> Any:
        if not self.batch:
            self.batch = (polled(lambda: self.client.lpop("jobs", 5), timeout_seconds) or [])[::-1]
        return self.batch.pop(0) if self.batch else None


class TakesTwoGivesOne(Counts):
    def get(self, timeout_seconds: float) -> Any:
        popped = polled(lambda: self.client.lpop("jobs", 2), timeout_seconds)
        return popped and popped[0]


class LooksThenPops(Blpop):
    """Another consumer may pop in between."""

    def get(self, timeout_seconds: float) -> Any:  # noqa: ARG002
        body = self.client.lindex("jobs", 0)
        if body is not None:
            self.client.lpop("jobs")
        return body


class ReadsThenTrims(BatchPop):
    """LRANGE and LTRIM are two commands."""

    def get(self, timeout_seconds: float) -> Any:  # noqa: ARG002
        if not self.batch:
            self.batch = self.client.lrange("jobs", 0, 1)
            self.client.ltrim("jobs", 2, -1)
        return self.batch.pop(0) if self.batch else None


class EmptiesAtStart(Blpop):
    """Each consumer begins with a clean list, once something is there."""

    started = False

    def get(self, timeout_seconds: float) -> Any:
        if not self.started:
            self.started = True
            for _ in range(10):
                if self.client.exists("jobs"):
                    break
                time.sleep(timeout_seconds / 10)
            self.client.delete("jobs")
        return super().get(timeout_seconds)


class GivesUpWithoutTheLock(Blpop):
    """A put that does not get the lock is forgotten."""

    def put(self, body: bytes) -> None:
        if self.client.set("lock", 1, nx=True, px=5000):
            super().put(body)
            self.client.delete("lock")


class NumbersByHand(BodiesBeside):
    """GET and SET of a counter: two producers give the same number."""

    def put(self, body: bytes) -> None:
        number = int(self.client.get("names") or 0) + 1
        self.client.set("names", number)
        self.client.set(f"body:{number}", body)
        self.client.rpush("jobs", number)


class SlotsOfARing(BodiesBeside):
    """Four slots, which the fifth message overwrites."""

    def put(self, body: bytes) -> None:
        name = self.client.incr("names") % 2
        self.client.set(f"body:{name}", body)
        self.client.rpush("jobs", name)


class DropsWhatLooksAlike(Blpop):
    """Equal beginnings are taken for equal messages."""

    def put(self, body: bytes) -> None:
        if self.client.sadd("seen", body[:12]):
            super().put(body)


class RateLimitThatDrops(Counts):
    """What is above the limit is thrown away."""

    def put(self, body: bytes) -> None:
        if self.client.incr("rate") <= 2:
            super().put(body)


class AcksBeforeTheWork(Reliable):
    """Its ack does nothing: what it hands out has left the list."""

    def get(self, timeout_seconds: float) -> Any:
        body = super().get(timeout_seconds)
        if body is not None:
            super().ack(body)
        return body

    def ack(self, body: bytes) -> Any:  # noqa: ARG002 - it has been done
        return True


class NeverAcks(Reliable):
    """Its ack says yes and does nothing."""

    def ack(self, body: bytes) -> Any:  # noqa: ARG002 - it is not done
        return True

    def pending(self) -> list[bytes]:
        return [body for name in sorted(self.client.smembers("workers")) for body in self.client.lrange(name, 0, -1)]

    def remaining(self) -> list[bytes]:
        inside: list[bytes] = self.client.lrange("jobs", 0, -1)
        return inside


class NeverRecovers(Reliable):
    """What a dead worker held stays in its list."""

    def recover(self) -> None:
        pass


class RobsTheLiving(Reliable):
    """Each consumer gives back what all hold when it starts."""

    started = False

    def recover(self) -> None:
        if not self.started:
            self.started = True
            for name in sorted(self.client.smembers("workers")):
                while self.client.lmove(name, "jobs", "RIGHT", "LEFT"):
                    pass


class RecoversIntoNothing(Reliable):
    """What a dead worker held is deleted instead of moved."""

    def recover(self) -> None:
        for name in sorted(self.client.smembers("workers")):
            if not self.client.exists(b"alive:" + name):
                self.client.delete(name)


class AcksTooMuch(Reliable):
    """Its ack deletes the whole list of the worker, in which more may lie."""

    def get(self, timeout_seconds: float) -> Any:
        body = super().get(timeout_seconds)
        if body is not None:
            self.client.lmove("jobs", self.held, "LEFT", "RIGHT")
        return body

    def ack(self, body: bytes) -> Any:  # noqa: ARG002 - all go
        return bool(self.client.delete(self.held))


class PublishesOnly(Blpop):
    """PUBLISH reaches those who listen, and a consumer that reconnects does not."""

    subscribed: Any = None

    def put(self, body: bytes) -> None:
        self.client.publish("jobs", body)

    def get(self, timeout_seconds: float) -> Any:
        if self.subscribed is None:
            self.subscribed = self.client.pubsub(ignore_subscribe_messages=True)
            self.subscribed.subscribe("jobs")
        told = self.subscribed.get_message(timeout=timeout_seconds or 0.01)
        return told and told["data"]

    def close(self) -> None:
        if self.subscribed is not None:
            self.subscribed.close()


class AsyncLooksThenPops(AsyncBlpop):
    """The same in coroutines."""

    async def get(self, timeout_seconds: float) -> Any:  # noqa: ARG002
        body = await self.client.lindex("jobs", 0)
        if body is not None:
            await self.client.lpop("jobs")
        return body
