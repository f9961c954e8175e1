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
    """What producers and consumers do on keys of the run's own, and what is left of it at the end."""

    contract: str
    #: How many there are where nobody says.
    producers: int
    consumers: int

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:
        """Once, before anybody starts. Returns what it enqueued itself, if anything."""

    def producer(self, context: LoadContext, index: int) -> LoadClient | OwnQueueClient: ...

    def consumer(self, context: LoadContext, index: int) -> LoadClient | OwnQueueClient: ...

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        """How many messages consumers have still to get or to acknowledge; 0: drained."""

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        """The bodies that are left when everybody has ended, and that nobody has been given."""

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        """The bodies that some consumer has been given and has not acknowledged."""


@runtime_checkable
class ScenarioWithFigures(Protocol):
    """A scenario that has more to tell, while it runs, than how many messages are inside."""

    def watch(self, client: redis.Redis, assignment: Assignment) -> Mapping[str, int]:
        """By name; of each the highest that was seen becomes a figure of the run."""


@runtime_checkable
class ScenarioWithGroups(Protocol):
    """A scenario of `groups` that each get every message, perhaps beside readers who do."""

    groups: int

    def held(self, client: redis.Redis, assignment: Assignment) -> int:
        """How many messages groups have still to get or to acknowledge, each group's own."""


@runtime_checkable
class ScenarioWithTrimming(Protocol):
    """A scenario whose queue throws the oldest messages away."""

    def trimmed(self, client: redis.Redis, assignment: Assignment) -> int:
        """How many it has thrown away."""

    def kept(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        """The bodies that it still has, delivered or not."""
