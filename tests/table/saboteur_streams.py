"""Queues of streams and sorted sets, each with one fault that people make."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import redis

from pytest_redisq.queues import Delivery
from tests.table.streams import Group, Leased, Reader, Scheduler, entry


class GroupFromNow(Group):
    """The group is made at `$` by the first get: what was added before is never read."""

    start = "$"
    made = False

    def make(self) -> None:
        pass

    def get(self, timeout_seconds: float) -> Any:
        if not self.made:
            self.made = True
            super().make()
        return super().get(timeout_seconds)


class GroupWithoutClaim(Group):
    """What a dead consumer held stays pending to it."""

    def claimed(self) -> Delivery | None:
        return None

    def pending(self) -> list[bytes]:
        held = self.client.xpending_range("events", "workers", "-", "+", 1000)
        return [self.client.xrange("events", each["message_id"], each["message_id"])[0][1][b"body"] for each in held]

    def remaining(self) -> list[bytes]:
        return []


class GroupOfNoack(Group):
    """NOACK, and an ack that acknowledges nothing: a consumer that dies takes its message along."""

    noack = True

    def get(self, timeout_seconds: float) -> Any:
        return self.read(timeout_seconds)


class GroupThatClaimsAtOnce(Group):
    """Takes over what a living consumer has in hand."""

    idle_ms = 0


class GroupThatNeverAcks(GroupWithoutClaim):
    def ack(self, received: Delivery) -> Any:  # noqa: ARG002 - it is not done
        return True


class GroupThatSkipsAcks(GroupWithoutClaim):
    """Every third ack is not sent, as by a handler that fails without a word."""

    acks = 0

    def ack(self, received: Delivery) -> Any:
        self.acks += 1
        return super().ack(received) if self.acks % 3 else True


class GroupThatSwapsBodies(Group):
    """Hands out two entries, each with the body of the other."""

    held: Any = None

    def get(self, timeout_seconds: float) -> Any:
        if self.held is not None:
            held, self.held = self.held, None
            return held
        first, second = super().get(timeout_seconds), self.read(0)
        if first is None or second is None:
            return first or second
        self.held = replace(second, body=first.body)
        return replace(first, body=second.body)


class GroupThatReadsTwo(Group):
    """Reads two entries and hands out one."""

    def read(self, timeout_seconds: float) -> Delivery | None:
        block = max(int(timeout_seconds * 1000), 1)
        found = entry(self.client.xreadgroup("workers", self.name, {"events": ">"}, count=2, block=block))
        if found is not None:
            self.client.xack(
                "events", "workers", *[each["message_id"] for each in self._own() if self._other(each, found)]
            )
        return found

    def _own(self) -> Any:
        return self.client.xpending_range("events", "workers", "-", "+", 10, consumername=self.name)

    def _other(self, each: Any, found: Delivery) -> bool:
        return bool(each["message_id"].decode() != found.id)


class GroupTrimmedTooSoon(Group):
    """MAXLEN 2."""

    def put(self, body: bytes) -> Any:
        return self.client.xadd("events", {"body": body}, maxlen=2, approximate=False)


class ReaderFromNow(Reader):
    """Asks for what comes after the call, each time."""

    def get(self, timeout_seconds: float) -> Any:
        return entry(self.client.xread({"events": "$"}, count=1, block=max(int(timeout_seconds * 1000), 1)))


class ReaderThatStartsAgain(Reader):
    """Forgets its place when its connection breaks."""

    def get(self, timeout_seconds: float) -> Any:
        try:
            return super().get(timeout_seconds)
        except redis.ConnectionError:
            self.last = "0-0"
            raise


class ReaderThatSkips(Reader):
    """Reads two entries, goes on behind the second and hands out the first."""

    def get(self, timeout_seconds: float) -> Any:
        found = super().get(timeout_seconds)
        behind = found and self.client.xrange("events", f"({found.id}", count=1)
        if behind:
            self.last = behind[0][0].decode()
        return found


class SchedulerWithACursor(Scheduler):
    """Looks only at what has become due since it looked last, and takes one of them."""

    delay_seconds = 0.0
    last = 0.0

    def _take(self) -> Any:
        last, self.last = self.last, time.time()
        for body in self.client.zrangebyscore("due", last, self.last, start=0, num=1):
            if self.client.zrem("due", body):
                return body
        return None


class SchedulerByTheSecond(Scheduler):
    """Whole seconds: within one, the order is that of the bodies' bytes."""

    delay_seconds = 0.0

    def put(self, body: bytes) -> None:
        self.client.zadd("due", {body[::-1]: int(time.time())})

    def get(self, timeout_seconds: float) -> Any:
        body = super().get(timeout_seconds)
        return body and body[::-1]


class SchedulerWithoutAWinner(Scheduler):
    """Does not look whether its ZREM removed anything."""

    delay_seconds = -1.0

    def get(self, timeout_seconds: float) -> Any:  # noqa: ARG002
        for body in self.client.zrangebyscore("due", "-inf", time.time(), start=0, num=1):
            self.client.zrem("due", body)
            return body
        return None


class LeaseThatIsTooShort(Leased):
    """A message is due again at once, while it is being worked on."""

    def _take(self) -> Any:
        for body in self.client.zrangebyscore("due", "-inf", time.time(), start=0, num=1):
            return body
        return None


class LeaseThatIsLost(Leased):
    """Removes the message, and would add it again with the ack's failure: a dead worker's is gone."""

    def _take(self) -> Any:
        popped = self.client.zpopmin("due")
        return popped[0][0] if popped else None

    def ack(self, body: bytes) -> Any:  # noqa: ARG002 - it has been removed
        return True
