"""The faults that refuse a command: the error reply is a real server's, and a queue must not take it for success."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pytest_redisq.explore import World, explore, queue_scenario, replay
from pytest_redisq.queues import BlockingList, ReliableList, StreamGroup
from pytest_redisq.servers import Server
from tests.explore import thorough

Client = Any
pytestmark = thorough.TIME

ERRORS = ["oom", "readonly", "loading", "noscript", "moved"]


def push_twice(client: Client, between: Callable[[], object] = lambda: None) -> list[str]:
    """The errors of a plain command, and of a transaction that was queued before."""
    errors = []
    with client.pipeline() as pipe:
        pipe.watch("other")
        pipe.immediate_execute_command("MULTI")
        pipe.immediate_execute_command("RPUSH", "jobs", "a")
        between()
        try:
            pipe.immediate_execute_command("EXEC")
        except redis.ResponseError as error:
            errors.append(f"{type(error).__name__}: {error}")
    try:
        client.rpush("jobs", "a")
    except redis.ResponseError as error:
        errors.append(f"{type(error).__name__}: {error}")
    return errors


@pytest.mark.server
@pytest.mark.parametrize(
    ("letter", "state"), [("m", ["CONFIG", "SET", "maxmemory", "1"]), ("y", ["REPLICAOF", "127.0.0.1", "1"])]
)
def test_a_command_is_refused_as_by_a_real_server(
    url: str, redisq_start: Callable[..., Server], letter: str, state: list[str]
) -> None:
    """Alone and in a transaction, which is over then. It has no effect."""

    def scenario(world: World) -> None:
        actor = world.actor(push_twice)
        world.run()
        told.extend(actor.result)
        assert not world.redis.exists("jobs")

    told: list[str] = []
    assert replay(scenario, f"AA{letter}A{letter}", url=url).error is None
    server = redisq_start()
    with redis.Redis.from_url(server.url, retry=None) as client, redis.Redis.from_url(server.url) as other:
        assert told == push_twice(client, lambda: other.execute_command(*state))
    assert len(told) == 2


def test_an_error_names_the_slot_of_the_key_and_strikes_only_what_can_get_it(url: str) -> None:
    """Only `loading` and `moved` can refuse a read. An actor that raises what it gets has done nothing wrong."""

    def scenario(world: World) -> None:
        world.actor(lambda client: (client.get("foo"), client.lrange("foo", 0, -1)))
        world.run()

    for fault in ERRORS:
        result = explore(scenario, url=url, schedules=20, faults=[fault])  # type: ignore[list-item]
        assert result.failure is None
        assert len(result.evidence.struck) == (2 if fault in ("loading", "moved") else 0)
    assert "MOVED 12182 127.0.0.1:" in replay(scenario, "Av", url=url).table()


class Swallows:
    """The saboteur: reports success although the server has refused the message."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        with contextlib.suppress(redis.RedisError):
            self.push(body)

    def push(self, body: bytes) -> None:
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        found = self.client.blpop("jobs", timeout=timeout_seconds)
        return found[1] if found else None


class Script(Swallows):
    """The same with a script, which the server may not know."""

    def push(self, body: bytes) -> None:
        self.client.evalsha(self.client.script_load("return redis.call('RPUSH', KEYS[1], ARGV[1])"), 1, "jobs", body)


class Raises(Swallows):
    """The correct twin."""

    def put(self, body: bytes) -> None:
        self.push(body)


class RaisesOfScript(Script):
    """The correct twin of the script."""

    def put(self, body: bytes) -> None:
        self.push(body)


@pytest.mark.parametrize("fault", ["oom", "readonly", "loading", "noscript", "moved"])
def test_a_refused_message_must_not_count_as_sent(url: str, fault: Any) -> None:
    saboteur, twin = (Script, RaisesOfScript) if fault == "noscript" else (Swallows, Raises)
    swallowing = queue_scenario(saboteur, "at-least-once", consumers=1, messages=2)
    failure = explore(swallowing, url=url, schedules=100, faults=fault).failure
    assert failure
    assert "1 lost" in str(failure.error)
    assert "refused: " in failure.explain()
    raising = queue_scenario(twin, "at-least-once", consumers=1, messages=2)
    explore(raising, url=url, schedules=50, faults=fault).verify()


@pytest.mark.parametrize(
    "queue",
    [BlockingList("jobs"), ReliableList("jobs"), StreamGroup("jobs", "workers")],
    ids=["list", "reliable", "group"],
)
def test_the_supplied_queues_lose_nothing_to_refusals(url: str, queue: Any) -> None:
    scenario = queue_scenario(queue, "at-least-once, live", messages=2)
    explore(scenario, url=url, schedules=thorough.schedules(40), faults=ERRORS, max_faults=2).verify()  # type: ignore[arg-type]
