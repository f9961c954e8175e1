"""What a worker has to do, as plain data that can be sent to another process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from pytest_redisq.model import Message

#: How workers are run. "process" is fork on Linux (quick, and takes any queue) and spawn elsewhere; "pool" is a
#: `multiprocessing.Pool`, "executor" a `concurrent.futures.ProcessPoolExecutor`.
Workers = Literal["thread", "asyncio", "process", "fork", "spawn", "forkserver", "pool", "executor"]
WORKERS: tuple[str, ...] = get_args(Workers)

#: What a consumer does with a message between `get` and `ack`: it takes so many seconds, or calls this function of
#: the message. The work fails if the function raises.
Work: TypeAlias = float | Callable[[Message], Any]
Payload: TypeAlias = int | Callable[[Message], bytes]
ClientFactory: TypeAlias = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Rate:
    """All producers together send this many messages a second, evenly spaced."""

    per_second: float

    def due_seconds(self, sequence: int, producers: int) -> float:
        return sequence * producers / self.per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """Each producer sends `size` messages at once, every `every_seconds`."""

    size: int
    every_seconds: float

    def due_seconds(self, sequence: int, producers: int) -> float:  # noqa: ARG002  each producer has its own bursts
        return (sequence // self.size) * self.every_seconds


Pace: TypeAlias = Rate | Bursts


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerJob:
    """Put the messages (producer, 0) … (producer, messages − 1)."""

    name: str
    slot: int
    run: str
    producer: int
    producers: int
    messages: int
    payload: Payload
    pace: Pace | None

    def payload_for(self, message: Message) -> bytes:
        return b"x" * self.payload if isinstance(self.payload, int) else self.payload(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerJob:
    """Get messages, and acknowledge them where the queue wants that, until told to stop."""

    name: str
    slot: int
    run: str
    wait_seconds: float
    work: Work = 0.0


Job: TypeAlias = ProducerJob | ConsumerJob


def share_out(number: int, workers: int) -> list[int]:
    """Returns how many of `number` each of `workers` gets: as equal as possible.

    >>> share_out(10, 4)
    [3, 3, 2, 2]
    """
    each, over = divmod(number, workers)
    return [each + (index < over) for index in range(workers)]


def fairness(counts: Collection[int]) -> float:
    """Returns Jain's index of how evenly something was shared.

    It is 1 if all got the same, 1 / n if one of n got all, and 0 if none got anything.

    >>> fairness([5, 5]), fairness([10, 0]), fairness([0, 0])
    (1.0, 0.5, 0.0)
    """
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 0.0
