"""Scenarios on lists: workers that block in BLPOP, a list drained by LPOP, and a job queue beside plain GET and SET."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import redis

from pytest_redisq.load.deliveries import LIST
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import LoadClient, RepeatingClient
from pytest_redisq.load.engine.consumer_clients import BlpopClient, LpopClient
from pytest_redisq.load.engine.load_context import LoadContext, in_order
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.scenarios.scenario_settings import at_least_one

#: Elements that one command reads when the rest of a list is counted.
_LOOK = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BlpopWorkers:
    """Jobs pushed to `queues` lists, and workers that block in BLPOP on all of them."""

    contract: str = "effectively-once"
    producers: int = 10
    consumers: int = 100
    queues: int = 1

    def __post_init__(self) -> None:
        at_least_one(queues=self.queues)

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:  # noqa: ARG002
        return Ledger()

    def producer(self, context: LoadContext, index: int) -> LoadClient:
        number = (context.assignment.first_producer + index) % self.queues
        return context.push_client(index, ("RPUSH", context.key(f"jobs:{number}")), name="RPUSH jobs")

    def consumer(self, context: LoadContext, index: int) -> LoadClient:  # noqa: ARG002
        buffer = context.delivery_buffer(LIST.ordered(in_order(self.contract)))
        return BlpopClient(buffer, _jobs(context.assignment, self.queues), name="BLPOP jobs")

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        return sum(int(client.llen(key)) for key in _jobs(assignment, self.queues))

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        for key in _jobs(assignment, self.queues):
            yield from _elements(client, key)

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDrain:
    """A list that is drained by LPOP, `chunk` elements at a time, while producers push to it."""

    contract: str = "effectively-once"
    producers: int = 10
    consumers: int = 2
    chunk: int = 1000

    def __post_init__(self) -> None:
        at_least_one(chunk=self.chunk)

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:  # noqa: ARG002
        return Ledger()

    def producer(self, context: LoadContext, index: int) -> LoadClient:
        return context.push_client(index, ("RPUSH", context.key("list")), name="RPUSH list")

    def consumer(self, context: LoadContext, index: int) -> LoadClient:  # noqa: ARG002
        buffer = context.delivery_buffer(LIST.ordered(in_order(self.contract)))
        return LpopClient(buffer, context.key("list"), name="LPOP list", count=self.chunk)

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        return int(client.llen(assignment.key("list")))

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return _elements(client, assignment.key("list"))

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:  # noqa: ARG002
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedWorkload:
    """A job queue beside other traffic: half of the producers only read or write a key by GET and SET."""

    contract: str = "effectively-once"
    producers: int = 20
    consumers: int = 20

    def prepare(self, client: redis.Redis, assignment: Assignment) -> Ledger:
        client.set(assignment.key("page"), b"x" * assignment.payload_bytes)
        return Ledger()

    def producer(self, context: LoadContext, index: int) -> LoadClient:
        match index % 4:
            case 0:
                return RepeatingClient(("GET", context.key("page")), name="GET page")
            case 1:
                return RepeatingClient(
                    ("SET", context.key("page"), b"x" * context.assignment.payload_bytes), name="SET page"
                )
            case _:
                return _JOBS.producer(context, index)

    def consumer(self, context: LoadContext, index: int) -> LoadClient:
        return _JOBS.consumer(context, index)

    def backlog(self, client: redis.Redis, assignment: Assignment) -> int:
        return _JOBS.backlog(client, assignment)

    def remaining(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return _JOBS.remaining(client, assignment)

    def pending(self, client: redis.Redis, assignment: Assignment) -> Iterator[bytes]:
        return _JOBS.pending(client, assignment)


_JOBS = BlpopWorkers()


def _jobs(assignment: Assignment, queues: int) -> tuple[str, ...]:
    return tuple(assignment.key(f"jobs:{number}") for number in range(queues))


def _elements(client: redis.Redis, key: str) -> Iterator[bytes]:
    for start in itertools.count(0, _LOOK):
        elements = cast(list[bytes], client.lrange(key, start, start + _LOOK - 1))
        if not elements:
            return
        yield from elements
