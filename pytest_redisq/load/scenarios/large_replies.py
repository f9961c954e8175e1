"""Large LRANGE replies, whole or in chunks: how fast they come, and how long other clients wait meanwhile."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from pytest_redisq.load.codec import (
    PRODUCERS_OF_A_PROCESS,
    TRAILER_BYTES,
    BodyCodec,
    ShortBodyCodec,
    key_of,
    now_ns,
)
from pytest_redisq.load.deliveries import LIST
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import LoadClient, RepeatingClient
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.scenarios.scenario_settings import at_least_one
from pytest_redisq.resp import encode_command

#: So many elements are pushed by one command when the list is filled, or as many as have so many bytes.
_FILL, _FILL_BYTES = 1000, 2**22
#: Fills the list: the last producer that the first process can have, and does not.
_FILLER = PRODUCERS_OF_A_PROCESS - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LrangePayload:
    """Readers (`consumers`) that read a list of `elements` again and again, and `producers` that only GET a small key.

    `chunk` is how many elements a reader asks for at a time; 0 for all at once. Each reader is owed every element once;
    what it gets when it begins anew must be the very same bytes. Elements may have 10 bytes (others' messages: 20).
    """

    contract: str = "fan-out"
    producers: int = 2
    consumers: int = 4
    elements: int = 10_000
    chunk: int = 0

    def __post_init__(self) -> None:
        at_least_one(elements=self.elements)

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:
        write, moment = _codec(assignment).writer(), now_ns()
        keys = range(key_of(_FILLER, 0), key_of(_FILLER, self.elements))
        step = max(1, min(_FILL, _FILL_BYTES // assignment.payload_bytes))
        for start in range(0, self.elements, step):
            client.rpush(assignment.key("list"), *(write(key, moment) for key in keys[start : start + step]))
        client.set(assignment.key("neighbour"), b"x")
        ledger = Ledger()
        ledger.attempt(_FILLER, self.elements)
        return ledger

    def producer(self, context: LoadContext, index: int) -> LoadClient:  # noqa: ARG002
        return RepeatingClient(("GET", context.key("neighbour")), name="GET neighbour")

    def consumer(self, context: LoadContext, index: int) -> LoadClient:
        buffer = context.own_delivery_buffer(LIST, reader=f"reader-{context.assignment.first_consumer + index}")
        return LrangeClient(
            context.ledger,
            buffer,
            _codec(context.assignment),
            context.key("list"),
            self.elements,
            self.chunk or self.elements,
        )

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:  # noqa: ARG002
        """0, since each reader goes on by itself until it has read all once."""
        return 0

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())


def _codec(assignment: Assignment) -> BodyCodec | ShortBodyCodec:
    """Returns the codec of the elements. They may be short, as their latency is not measured."""
    kind = BodyCodec if assignment.payload_bytes >= TRAILER_BYTES else ShortBodyCodec
    return kind(assignment.salt, assignment.payload_bytes)


class LrangeClient:
    """Reads a list again and again. The first time it records the elements, then it compares checksums."""

    name = "LRANGE list"
    replies = 1
    producing = False
    blocking = False

    def __init__(
        self,
        ledger: Ledger,
        buffer: DeliveryBuffer,
        codec: BodyCodec | ShortBodyCodec,
        key: str,
        elements: int,
        chunk: int,
    ) -> None:
        self._ledger = ledger
        self._buffer = buffer
        self._codec = codec
        starts = range(0, elements, chunk)
        self._requests = [encode_command(["LRANGE", key, start, start + chunk - 1]) for start in starts]
        self._checksums: list[int] = []
        self._turn = 0

    def request(self, now_ns: int) -> bytes:  # noqa: ARG002
        return self._requests[self._turn % len(self._requests)]

    def reply(self, reply: Any, now_ns: int) -> int:
        checksum = zlib.crc32(b"".join(reply))
        if self._turn < len(self._requests):
            self._take(reply, now_ns)
            self._checksums.append(checksum)
        elif checksum != self._checksums[self._turn % len(self._requests)]:
            self._ledger.corrupt(b"".join(reply[:1]))
        self._turn += 1
        return 0

    def _take(self, bodies: list[bytes], now_ns: int) -> None:
        if isinstance(self._codec, BodyCodec):
            for body in bodies:
                self._buffer.take(body, now_ns)
            return
        for body in bodies:
            read = self._codec.read(body)
            if read is None:
                self._ledger.corrupt(body)
            else:
                self._buffer.keys.append(read.key.to_bytes(8, "little"))

    def refuse(self, at: int) -> None: ...

    def connection_lost(self, at: int) -> None: ...

    def has_unacked(self) -> bool:
        return self._turn < len(self._requests)

    def pause_ns(self) -> int:
        return 0
