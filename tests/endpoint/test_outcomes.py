"""One classification of outcomes: an error reply is a certain failure only where the operation sent one command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from pytest_redisq.check import Contract, Verdict, check
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.endpoint.outcomes import DeclaredFailureError, outcome_of
from pytest_redisq.explore import World, delivery_recorder, explore
from pytest_redisq.history import History
from pytest_redisq.model import Kind, Outcome
from pytest_redisq.runner import run
from pytest_redisq.servers import Server, start
from tests.support import local

KEY, TEXT = "outcomes:jobs", "outcomes:text"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = start(local())
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _text(server: Server) -> None:
    """INCR of this key, and RPUSH to it, get an error reply."""
    with server.client() as client:
        client.flushall()
        client.set(TEXT, "text")


class RefusedAtOnce:
    """The only command of `put` gets an error reply: the message is certainly not in the queue."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush(TEXT, body)

    def get(self, timeout_seconds: float) -> bytes | None:
        popped: Any = self.client.blpop([KEY], timeout_seconds)
        return popped and popped[1]


class RefusedAfterwards(RefusedAtOnce):
    """The second command of `put` gets the error reply: the message is in the queue."""

    def put(self, body: bytes) -> None:
        self.client.rpush(KEY, body)
        self.client.incr(TEXT)


class RefusedInAPipeline(RefusedAtOnce):
    def put(self, body: bytes) -> None:
        self.client.pipeline(transaction=False).rpush(KEY, body).incr(TEXT).execute()


class RefusedInAScript(RefusedAtOnce):
    def put(self, body: bytes) -> None:
        self.client.eval("redis.call('RPUSH', KEYS[1], ARGV[1]); redis.call('INCR', KEYS[2])", 2, KEY, TEXT, body)


def _outcomes(history: History) -> Counter[Outcome]:
    return Counter(op.outcome for op in history if op.kind is Kind.ENQUEUE)


@pytest.mark.parametrize("workers", ["thread", "process"])
@pytest.mark.parametrize("queue", [RefusedAfterwards, RefusedInAPipeline, RefusedInAScript])
def test_an_error_reply_after_other_commands_is_unknown(server: Server, queue: Any, workers: Any) -> None:
    done = run(queue, at=server, messages=3, workers=workers)
    assert _outcomes(done.history) == {Outcome.INFO: 3}
    assert done.verdict("at-least-once").totals.delivered == 3


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_an_error_reply_to_the_only_command_is_a_failure(server: Server, workers: Any) -> None:
    """The handshake of the worker's connection is no command of the operation."""
    assert _outcomes(run(RefusedAtOnce, at=server, messages=3, workers=workers).history) == {Outcome.FAIL: 3}


def test_commands_of_a_shared_queue_cannot_be_counted(server: Server) -> None:
    with server.client() as client:
        done = run(RefusedAtOnce(client), at=server, messages=3)
    assert _outcomes(done.history) == {Outcome.INFO: 3}


class AsyncRefused:
    def __init__(self, client: Any) -> None:
        self.client = client

    async def put(self, body: bytes) -> None:
        await self.client.rpush(TEXT, body)

    async def get(self, timeout_seconds: float) -> bytes | None:
        popped = await self.client.blpop([KEY], timeout_seconds)
        return popped and popped[1]


class AsyncRefusedAfterwards(AsyncRefused):
    async def put(self, body: bytes) -> None:
        await self.client.rpush(KEY, body)
        await self.client.incr(TEXT)


@pytest.mark.parametrize(("queue", "outcome"), [(AsyncRefused, Outcome.FAIL), (AsyncRefusedAfterwards, Outcome.INFO)])
def test_tasks_count_their_commands_as_well(server: Server, queue: Any, outcome: Outcome) -> None:
    assert _outcomes(run(queue, at=server, messages=3, workers="asyncio").history) == {outcome: 3}


@pytest.mark.parametrize(
    ("queue", "outcome"),
    [
        (RefusedAtOnce, Outcome.FAIL),
        (RefusedAfterwards, Outcome.INFO),
        (RefusedInAPipeline, Outcome.INFO),
        (RefusedInAScript, Outcome.INFO),
        (AsyncRefused, Outcome.FAIL),
        (AsyncRefusedAfterwards, Outcome.INFO),
    ],
)
def test_an_explored_queue_has_the_same_outcomes_as_in_a_run(
    server: Server, queue: Any, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[History] = []

    def checked(history: History, contract: Contract) -> Verdict:
        judged.append(history)
        return check(history, contract)

    monkeypatch.setattr(delivery_recorder, "check", checked)

    def scenario(world: World) -> None:
        world.redis.set(TEXT, "text")
        world.producer(queue, 3)
        world.consumer(queue)
        world.verify("at-least-once")

    explore(scenario, url=server.url, schedules=1)
    assert _outcomes(judged[0]) == {outcome: 3}


def test_a_fence_counts_what_is_sent_and_not_the_handshake(server: Server) -> None:
    fence = Fence()
    with server.client() as client:
        fence.guard(client)
        client.ping()
        assert fence.commands == 1
        client.pipeline(transaction=True).incr("n").incr("n").execute()
        assert fence.commands == 5


@pytest.mark.parametrize(
    ("error", "commands", "outcome"),
    [
        (redis.ResponseError("OOM"), 1, Outcome.FAIL),
        (redis.ResponseError("OOM"), 2, Outcome.INFO),
        (redis.ResponseError("OOM"), 0, Outcome.INFO),
        (redis.ResponseError("OOM"), None, Outcome.INFO),
        (DeclaredFailureError("no"), None, Outcome.FAIL),
        (redis.ConnectionError("reset"), 1, Outcome.INFO),
        (redis.TimeoutError("late"), 1, Outcome.INFO),
        (BrokenPipeError("gone"), 1, Outcome.INFO),
        (ZeroDivisionError(), 1, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_classification(error: Exception, commands: int | None, outcome: Outcome | None) -> None:
    assert outcome_of(error, commands=commands) is outcome
