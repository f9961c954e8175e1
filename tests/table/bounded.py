"""Queues with a bound, and saboteurs that lose messages otherwise. All put faster than they are read."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import Any

import redis

from tests.newcomers import Entry


class CappedList:
    """Keeps the newest 50 elements, and does not declare it."""

    keeps = 50

    def __init__(self, client: Any) -> None:
        self.client = client
        self.puts = itertools.count(1)

    def put(self, body: bytes) -> None:
        with self.client.pipeline(transaction=True) as pipeline:
            pipeline.rpush("log", body).ltrim("log", -self.keeps, -1).execute()

    def get(self, timeout_seconds: float) -> bytes | None:
        time.sleep(0.002)
        got = self.client.blpop("log", timeout_seconds)
        return got and got[1]  # type: ignore[no-any-return]


class DeclaredList(CappedList):
    maxlen = 50


class DeclaredListThatDrops(DeclaredList):
    """Drops every third message: the newest ones among them cannot have been trimmed."""

    def put(self, body: bytes) -> None:
        if next(self.puts) % 3:
            super().put(body)


class CappedStream:
    """A group on a stream that keeps the newest 50 entries."""

    keeps = 50

    def __init__(self, client: Any) -> None:
        self.client = client
        self.puts = itertools.count(1)
        with contextlib.suppress(redis.ResponseError):
            client.xgroup_create("log", "group", "0", mkstream=True)

    def put(self, body: bytes) -> Any:
        return self.client.xadd("log", {"body": body}, maxlen=self.keeps, approximate=False)

    def get(self, timeout_seconds: float) -> Entry | None:
        time.sleep(0.002)
        block = int(timeout_seconds * 1000)
        streams = self.client.xreadgroup("group", str(id(self)), {"log": ">"}, count=1, block=block)
        return Entry(*streams[0][1][0]) if streams else None

    def ack(self, entry: Entry) -> None:
        self.client.xack("log", "group", entry.id)


class CappedStreamWithoutIds(CappedStream):
    """Its put does not return the entry's id."""

    def put(self, body: bytes) -> None:
        super().put(body)


class _ForgetsOne:
    """Removes one message from the queue, by default its fifth, and does not return it: no bound had removed it."""

    gets = 0
    forgets = 5

    def get(self, timeout_seconds: float) -> Any:
        got: Any = super().get(timeout_seconds)  # type: ignore[misc]
        self.gets += got is not None
        if got is None or self.gets != self.forgets:
            return got
        if ack := getattr(self, "ack", None):
            ack(got)
        return None


class CappedListThatForgets(_ForgetsOne, CappedList):
    """LTRIM, and a consumer that forgets a message."""


class CappedStreamThatForgets(_ForgetsOne, CappedStream):
    """MAXLEN, and a consumer that forgets a message."""


class NamelessStreamThatForgets(_ForgetsOne, CappedStreamWithoutIds):
    """MAXLEN, no ids, and a consumer that forgets a message."""


class CappedReader(CappedStream):
    """Each consumer reads all entries by itself."""

    last = "0-0"
    ack = None  # type: ignore[assignment]

    def get(self, timeout_seconds: float) -> Entry | None:
        time.sleep(0.002)
        streams: Any = self.client.xread({"log": self.last}, count=1, block=int(timeout_seconds * 1000))
        if not streams:
            return None
        entry = Entry(*streams[0][1][0])
        self.last = entry.id
        return entry


class CappedReaderThatForgets(_ForgetsOne, CappedReader):
    """MAXLEN, and each reader forgets an entry."""


class NamelessStreamThatDrops(CappedStreamWithoutIds):
    """Every hundredth message is not added."""

    def put(self, body: bytes) -> None:
        if next(self.puts) % 100:
            super().put(body)


class CappedStreamThatDrops(CappedStream):
    def put(self, body: bytes) -> Any:
        return super().put(body) if next(self.puts) % 100 else None
