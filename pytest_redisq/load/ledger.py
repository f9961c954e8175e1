"""What became of every message of a load run: the record of one process, and how several are merged.

A producer numbers its messages from 0 without a gap, so what was attempted is one number per producer; what failed,
what arrived and what is left are compressed bitmaps of keys (see message.py), which take 21 kB for 10^8 messages that
arrived without a gap and 12.5 MB at the very worst. All numbers are exact.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pyroaring import BitMap64

from pytest_redisq.load.codec import MAX_SEQUENCE, key_of
from pytest_redisq.load.consumer_log import ConsumerLogs
from pytest_redisq.load.deliveries import AckBatch, Coverage, Dequeue, Received, packed
from pytest_redisq.load.newest_puts import NewestPuts

#: So many unreadable bodies are kept, as far as this many bytes, to be shown.
_EXAMPLES, _EXAMPLE_BYTES = 5, 60


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The record of one process; or of all, once merged.

    `failed`: enqueues that certainly did not happen; `unknown`: those whose outcome is unknown. All others attempted
    are acknowledged. `readers`: what each reader got; all consumers who share a queue are one. `remaining` and
    `pending` are what the queue still holds at the end, the latter already handed to some consumer; `trimmed` is what
    it has thrown away by a bound. `newest`: the newest enqueues to a queue of the user's own. `kept_back`: what its
    consumers were handed, and their `get` did not return.
    """

    attempted: dict[int, int] = field(default_factory=dict)
    failed: BitMap64 = field(default_factory=BitMap64)
    unknown: BitMap64 = field(default_factory=BitMap64)
    readers: dict[str, Received] = field(default_factory=dict)
    corrupted: int = 0
    examples: list[bytes] = field(default_factory=list)
    remaining: BitMap64 = field(default_factory=BitMap64)
    pending: BitMap64 = field(default_factory=BitMap64)
    trimmed: BitMap64 = field(default_factory=BitMap64)
    logs: ConsumerLogs = field(default_factory=ConsumerLogs)
    newest: NewestPuts = field(default_factory=NewestPuts)
    kept_back: BitMap64 = field(default_factory=BitMap64)

    def attempt(self, producer: int, messages: int = 1) -> int:
        """Note that `producer` is about to enqueue so many; the sequence of the first."""
        first = self.attempted.get(producer, 0)
        if first + messages > MAX_SEQUENCE:
            raise OverflowError(f"producer {producer} has sent {MAX_SEQUENCE} messages; start another")
        self.attempted[producer] = first + messages
        return first

    def fail(self, producer: int, first: int, messages: int = 1) -> None:
        """These certainly have not been enqueued."""
        self.failed.add_range(key_of(producer, first), key_of(producer, first) + messages)

    def forget(self, producer: int, first: int, messages: int = 1) -> None:
        """Whether these were enqueued is unknown."""
        self.unknown.add_range(key_of(producer, first), key_of(producer, first) + messages)

    def receive(
        self,
        keys: Sequence[bytes],
        *,
        reader: str = "",
        dequeues: Sequence[Dequeue] = (),
        acks: Sequence[AckBatch] = (),
    ) -> None:
        """Add deliveries of whole bodies, given by their keys as they stand in the bodies (`key_bytes`), and acks."""
        if keys or acks:
            self.reader(reader).add(array("Q", b"".join(keys)), dequeues, acks)

    def reader(self, name: str, coverage: Coverage | None = None) -> Received:
        """The record of that reader, opened if there is none."""
        if name not in self.readers:
            self.readers[name] = Received(coverage=coverage or Coverage())
        return self.readers[name]

    @property
    def unknown_takes(self) -> int:
        """How many messages dequeues of unknown outcome may have taken."""
        return sum(received.unknown_takes for received in self.readers.values())

    def corrupt(self, body: bytes) -> None:
        """Add the delivery of a body that is corrupted."""
        self.corrupted += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(bytes(body[:_EXAMPLE_BYTES]))

    def acknowledged(self) -> BitMap64:
        return self.tried() - self.failed - self.unknown

    def tried(self) -> BitMap64:
        """All that was attempted."""
        keys = BitMap64()
        for producer, messages in self.attempted.items():
            keys.add_range(key_of(producer, 0), key_of(producer, messages))
        return keys

    def merge(self, other: Ledger) -> None:
        """Add the ledger of another process. Commutative and associative; producers must not be shared."""
        shared = self.attempted.keys() & other.attempted.keys()
        if shared:
            raise ValueError(f"two processes claim to be producer {min(shared)}")
        self.attempted.update(other.attempted)
        self.failed |= other.failed
        self.unknown |= other.unknown
        for name, received in other.readers.items():
            self.reader(name, received.coverage).merge(received)
        self.corrupted += other.corrupted
        self.examples = sorted(self.examples + other.examples)[:_EXAMPLES]
        self.remaining |= other.remaining
        self.pending |= other.pending
        self.trimmed |= other.trimmed
        self.logs.merge(other.logs)
        self.newest.merge(other.newest)
        self.kept_back |= other.kept_back

    def dump(self) -> dict[str, Any]:
        """As plain values and bytes, to be sent (Locust's messages are msgpack)."""
        return {
            "attempted": list(self.attempted.items()),
            "failed": packed(self.failed),
            "unknown": packed(self.unknown),
            "readers": {name: received.dump() for name, received in self.readers.items()},
            "corrupted": self.corrupted,
            "examples": self.examples,
            "remaining": packed(self.remaining),
            "pending": packed(self.pending),
            "logs": self.logs.dump(time.time_ns()),
            "newest": self.newest.dump(),
            "kept_back": packed(self.kept_back),
        }

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Self:
        """The inverse of `dump`."""
        return cls(
            attempted={producer: messages for producer, messages in dumped["attempted"]},  # noqa: C416
            failed=BitMap64.deserialize(dumped["failed"]),
            unknown=BitMap64.deserialize(dumped["unknown"]),
            readers={name: Received.load(received) for name, received in dumped["readers"].items()},
            corrupted=dumped["corrupted"],
            examples=list(dumped["examples"]),
            remaining=BitMap64.deserialize(dumped["remaining"]),
            pending=BitMap64.deserialize(dumped["pending"]),
            logs=ConsumerLogs.load(dumped["logs"]),
            newest=NewestPuts.load(dumped["newest"]),
            kept_back=BitMap64.deserialize(dumped["kept_back"]),
        )
