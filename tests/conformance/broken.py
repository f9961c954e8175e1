"""Queues that keep all laws of the kit but one. Each is right in everything that the other laws look at."""

from __future__ import annotations

import threading
import time
from typing import Any

from pytest_redisq.queues import Delivery, ReliableList, Stopped

Client = Any  # redis-py's own annotations mix the replies of its two faces
KEY = "jobs"
JOBS = ReliableList(KEY, lease_seconds=0.2)


class Right:
    """The correct twin: a reliable list's own end."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.end = JOBS.bind(client)
        self.remaining, self.pending, self.close = self.end.remaining, self.end.pending, self.end.close

    def put(self, body: bytes) -> None:
        self.end.put(body)

    def get(self, timeout_seconds: float) -> Delivery | None:
        return self.end.get(timeout_seconds)

    def ack(self, delivery: Delivery) -> bool:
        return self.end.ack(delivery)

    def stop(self) -> None:
        self.end.stop()


class TakesNothingForNone(Right):
    """An empty body is false, and so is no body."""

    def put(self, body: bytes) -> None:
        if body:
            super().put(body)


class Deduplicates(Right):
    """Equal messages are the same message, it thinks."""

    def put(self, body: bytes) -> None:
        if body not in self.client.lrange(KEY, 0, -1):
            super().put(body)


class HasRoomForAHundred(Right):
    """When more are waiting, the oldest go."""

    def put(self, body: bytes) -> None:
        super().put(body)
        self.client.ltrim(KEY, -100, -1)


class NeverWaits(Right):
    """Whoever calls it in a loop keeps a core busy."""

    def get(self, timeout_seconds: float) -> Delivery | None:
        delivery = super().get(0)
        # It waits only where it was told to wait for long.
        return delivery if delivery is not None or timeout_seconds < 0.5 else super().get(timeout_seconds)


class Naps(Right):
    """It looks, and then sleeps for two seconds if it may, whatever comes."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._stopped = threading.Event()

    def get(self, timeout_seconds: float) -> Delivery | None:
        deadline = time.monotonic() + timeout_seconds
        while True:
            delivery = super().get(0)
            left = deadline - time.monotonic()
            if delivery is not None or left <= 0:
                return delivery
            if self._stopped.wait(min(left, 2.0)):
                raise Stopped

    def stop(self) -> None:
        self._stopped.set()
        super().stop()


class StopsLate(Right):
    """A stop waits for the get that is under way."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._getting = threading.Lock()

    def get(self, timeout_seconds: float) -> Delivery | None:
        with self._getting:
            return super().get(timeout_seconds)

    def stop(self) -> None:
        with self._getting:
            super().stop()


class ForgetsAfterAnHour(Right):
    """A message is good for an hour, as a key with a time to live says. Then it is thrown away."""

    def put(self, body: bytes) -> None:
        self.client.set(b"good:" + body, "yes", ex=3600)
        super().put(body)

    def get(self, timeout_seconds: float) -> Delivery | None:
        delivery = super().get(timeout_seconds)
        if delivery is not None and not self.client.exists(b"good:" + delivery.body):
            super().ack(delivery)
            return None
        return delivery


class AcksTheOldest(Right):
    """It acknowledges what it has held longest, whatever it is told."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._held: list[Delivery] = []

    def get(self, timeout_seconds: float) -> Delivery | None:
        delivery = super().get(timeout_seconds)
        self._held += [delivery] if delivery else []
        return delivery

    def ack(self, delivery: Delivery) -> bool:
        return super().ack(self._held.pop(0) if self._held else delivery)


class LastInFirstOut(Right):
    def put(self, body: bytes) -> None:
        self.client.lpush(KEY, body)


class LooksThenTakes:
    """Another worker may have come in between."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush(KEY, body)

    def get(self, timeout_seconds: float) -> bytes | None:
        looked = self.client.lindex(KEY, 0)
        popped = self.client.blpop(KEY, timeout_seconds)
        if popped is None:
            return None
        return looked if looked is not None else popped[1]


class LooksThenTakesAsync:
    """The same in coroutines; and its right twin, which does not look."""

    looks = True

    def __init__(self, client: Client) -> None:
        self.client = client

    async def put(self, body: bytes) -> None:
        await self.client.rpush(KEY, body)

    async def get(self, timeout_seconds: float) -> bytes | None:
        looked = await self.client.lindex(KEY, 0) if self.looks else None
        popped = await self.client.blpop(KEY, timeout_seconds)
        if popped is None:
            return None
        return looked if looked is not None else popped[1]


class TakesAsync(LooksThenTakesAsync):
    looks = False


class ThreeIsACrowd(Right):
    """As if three workers had two connections: of three that wait at once, one takes what it cannot give on."""

    def get(self, timeout_seconds: float) -> Delivery | None:
        crowd = self.client.incr("waiting")
        try:
            delivery = super().get(timeout_seconds)
        finally:
            self.client.decr("waiting")
        if delivery is not None and crowd > 2:
            super().ack(delivery)
            return None
        return delivery


class AcksBeforeTheWork(Right):
    """Whoever dies takes along what it held."""

    def get(self, timeout_seconds: float) -> Delivery | None:
        delivery = super().get(timeout_seconds)
        if delivery is not None:
            super().ack(delivery)
        return delivery

    def ack(self, delivery: Delivery) -> bool:  # noqa: ARG002 - it has been done
        return True


class GivesUpWhatItHeld(Right):
    """The message that a worker held when it died stays in its list, which no worker recovers."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.pending = lambda: client.lrange("held", 0, -1)

    def get(self, timeout_seconds: float) -> Delivery | None:
        delivery = super().get(timeout_seconds)
        if delivery is not None:
            self.client.rpush("held", delivery.body)
            super().ack(delivery)
        return delivery

    def ack(self, delivery: Delivery) -> bool:
        return bool(self.client.lrem("held", 1, delivery.body))


class LosesItsPlace(Right):
    """It thinks that what it puts goes over the connection that it had, also where it has had to make another."""

    place: int | None = None

    def put(self, body: bytes) -> None:
        before, self.place = self.place, self.client.client_id()
        if before in (None, self.place):
            super().put(body)
