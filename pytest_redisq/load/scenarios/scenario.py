"""What a scenario provides: its clients, and how to tell when the queue is drained and what is left in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import redis

from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import LoadClient, OwnQueueClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.ledger import Ledger


class Scenario(Protocol):
    """What producers and consumers do on the keys of a run, and what is left there at the end."""

    contract: str
    #: The default numbers of producers and consumers.
    producers: int
    consumers: int

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:
        """Prepare the server before any client starts. Returns a ledger of what it enqueued itself."""

    def producer(self, context: LoadContext, index: int) -> LoadClient | OwnQueueClient:
        """Returns the `index`-th producer of this process."""

    def consumer(self, context: LoadContext, index: int) -> LoadClient | OwnQueueClient:
        """Returns the `index`-th consumer of this process."""

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        """The number of messages that consumers still have to receive or to acknowledge; 0 if the queue is drained."""

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        """The bodies left in the queue when all clients have ended, that no consumer has received."""

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        """The bodies that a consumer has received and not acknowledged."""


@runtime_checkable
class ScenarioWithFigures(Protocol):
    """A scenario with figures of its own while it runs, beside the length of the queue."""

    def watch(self, client: redis.Redis, assignment: Assignment) -> Mapping[str, int]:
        """Returns the figures by name. The highest of each becomes a figure of the run."""


@runtime_checkable
class ScenarioWithGroups(Protocol):
    """A scenario with `groups` that each receive every message, perhaps beside readers of every message."""

    groups: int

    def held(self, client: redis.Redis, assignment: Assignment) -> int:
        """The number of messages that groups still have to receive or to acknowledge, summed over the groups."""


@runtime_checkable
class ScenarioWithTrimming(Protocol):
    """A scenario whose queue removes its oldest messages."""

    def trimmed(self, client: redis.Redis, assignment: Assignment) -> int:
        """The number of messages that the queue has removed."""

    def kept(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        """The bodies that it still has, delivered or not."""
