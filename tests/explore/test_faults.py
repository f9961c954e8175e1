"""Faults that strike an actor's connections, its time, or the server: what each actor sees, and what is stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis

from pytest_redisq.explore import World, explore, queue_scenario, replay
from pytest_redisq.queues import BlockingList, ReliableList, StreamGroup
from pytest_redisq.servers import Server

Client = Any


def attempt(call: Callable[[], Any]) -> Any:
    """The result of a call, or the name of its error."""
    try:
        return call()
    except redis.RedisError as error:
        return type(error).__name__


def push_two(client: Client) -> list[Any]:
    return [attempt(partial(client.rpush, "jobs", job)) for job in "ab"]


def run(scenario: Callable[[World], None], schedule: str, url: str) -> None:
    error = replay(scenario, schedule, url=url).error
    if error:
        raise error


# -- drop ------------------------------------------------------------------------------------------------------------


def test_a_client_that_is_killed_has_sent_nothing(url: str) -> None:
    """Its connection is gone before the command; the next command finds a new one."""

    def scenario(world: World) -> None:
        actor = world.actor(push_two)
        world.run()
        assert actor.result == ["ConnectionError", 1]
        assert world.redis.lrange("jobs", 0, -1) == [b"b"]

    run(scenario, "AdA", url)


def test_a_client_that_is_killed_in_blpop_takes_no_job_along(url: str) -> None:
    """While it waits in the server, before the job comes."""

    def scenario(world: World) -> None:
        worker = world.actor(lambda client: attempt(lambda: client.blpop("jobs", timeout=30)))
        world.actor(lambda client: client.rpush("jobs", "a"))
        world.run()
        assert worker.result == "ConnectionError"
        assert world.redis.lrange("jobs", 0, -1) == [b"a"]

    run(scenario, "AAdB", url)


def test_a_subscriber_that_is_killed_subscribes_no_more(url: str) -> None:
    """All of an actor's connections go, also one that only listens."""

    def listen(client: Client) -> Any:
        with client.pubsub() as pubsub:
            pubsub.subscribe("news")
            return attempt(lambda: client.set("ready", 1))

    def scenario(world: World) -> None:
        listener = world.actor(listen)
        publisher = world.actor(lambda client: client.publish("news", "gone"))
        world.run()
        assert listener.result == "ConnectionError"
        assert publisher.result == 0

    run(scenario, "AA2dB", url)


# -- pause -----------------------------------------------------------------------------------------------------------


def lock_and_write(client: Client, name: str, after_seconds: float) -> str | None:
    """Trusts its lease: checks the lock once. Returns the lock's owner at its write."""
    time.sleep(after_seconds)
    if not client.set("lock", name, nx=True, ex=30):
        return None
    owner, _ = client.pipeline(transaction=True).get("lock").rpush("log", name).execute()
    return str(owner)


def lock_and_write_if_still_mine(client: Client, name: str, after_seconds: float) -> str | None:
    """Writes in one step with a look at the lock."""
    time.sleep(after_seconds)
    if not client.set("lock", name, nx=True, ex=30):
        return None
    with client.pipeline() as pipe:
        pipe.watch("lock")
        if pipe.get("lock") != name.encode():
            return None
        pipe.multi()
        pipe.get("lock").rpush("log", name)
        written = attempt(pipe.execute)
    return None if written == "WatchError" else str(written[0])


def locking(work: Callable[..., Any]) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        one, two = world.actor(work, "one", 0), world.actor(work, "two", 60)
        world.run()
        assert one.result in (None, "b'one'")
        assert two.result in (None, "b'two'")

    return scenario


def test_an_actor_that_is_paused_past_its_lease_comes_back_too_late(url: str) -> None:
    """It has the lock and is paused; its lease runs out and the other actor works; then it goes on and writes."""
    assert explore(locking(lock_and_write), url=url, schedules=50).failure is None
    failure = explore(locking(lock_and_write), url=url, schedules=100, faults="pause", seed=1).failure
    assert failure
    assert str(failure.schedule) == "AApBtBBAtA"
    assert "paused" in failure.explain()
    held = explore(locking(lock_and_write_if_still_mine), url=url, schedules=300, faults="pause", max_faults=2)
    assert held.verify().schedules == 300


def test_a_paused_coroutine_stands_still_whatever_comes(url: str) -> None:
    """None of its tasks goes on, and none of its timers, until the pause is over."""
    order: list[str] = []

    async def two_at_once(client: Client) -> None:
        first = await client.rpush("log", "first")
        order.append(f"pushed {first}")

    def scenario(world: World) -> None:
        order.clear()
        world.actor(two_at_once)
        world.actor(lambda client: (time.sleep(30), client.rpush("log", "other"), order.append("other")))
        world.run()

    run(scenario, "ApBtBAtA", url)
    assert order == ["other", "pushed 2"]


# -- the server ------------------------------------------------------------------------------------------------------


def tell(client: Client, restart: Callable[[], None]) -> list[Any]:
    """Writes of all kinds, a restart, and what is there then."""
    script = "return redis.call('INCR', KEYS[1])"
    client.rpush("jobs", "a", "b")
    client.set("lease", "me", ex=1000)
    client.xadd("s", {"n": 1}, id="1-1")
    client.xgroup_create("s", "g", id="0")
    client.xreadgroup("g", "c", {"s": ">"})
    sha = client.script_load(script)
    client.evalsha(sha, 1, "n")
    restart()
    seen = [attempt(lambda: client.lrange("jobs", 0, -1))]
    seen.append(attempt(lambda: client.lrange("jobs", 0, -1)))
    seen.append(attempt(lambda: client.evalsha(sha, 1, "n")))
    seen.append(client.script_exists(sha))
    seen.append(client.eval(script, 1, "n"))
    seen.append(client.evalsha(sha, 1, "n"))
    seen.append(client.ttl("lease") > 900)
    seen.append(attempt(lambda: [each["message_id"] for each in client.xpending_range("s", "g", "-", "+", 5)]))
    return seen


@pytest.mark.server
@pytest.mark.parametrize(("persistence", "kind"), [("aof", "s"), ("none", "w")])
def test_a_restart_looks_as_a_real_one_does(
    url: str, redisq_start: Callable[..., Server], persistence: str, kind: str
) -> None:
    """The same commands around the restart of a real server, with and without persistence, have the same replies."""
    told: list[Any] = []

    def scenario(world: World) -> None:
        actor = world.actor(tell, lambda: None)
        world.run()
        told.extend(actor.result)

    run(scenario, f"AAAAAAAA{kind}", url)
    server = redisq_start(persistence=persistence)
    with redis.Redis.from_url(server.url, retry=None) as client:
        real = tell(client, server.restart)
    assert told[1:] == real[1:]  # a client that was idle meanwhile has nothing under way that could be lost
    assert told[0] == "ConnectionError"
    assert told[1] == ([b"a", b"b"] if persistence == "aof" else [])


def test_a_restart_ends_what_waits_in_the_server(url: str) -> None:
    """An actor that is blocked there, or has a command under way, sees the connection end."""

    def scenario(world: World) -> None:
        waiting = world.actor(lambda client: [attempt(lambda: client.blpop("jobs", timeout=9)) for _ in range(2)])
        pushing = world.actor(push_two)
        world.run()
        assert waiting.result[0] == "ConnectionError"
        assert list(waiting.result[1]) == [b"jobs", b"b"]
        assert pushing.result == ["ConnectionError", 1]

    run(scenario, "ABsAB", url)


def lose_last(write: Callable[[Client], Any], left: Callable[[Client], Any], url: str, schedule: str) -> Any:
    """The data after some writes and a failover before the step that is marked in the schedule."""
    found: list[Any] = []

    def scenario(world: World) -> None:
        def work(client: Client) -> None:
            write(client)
            attempt(lambda: client.get("anything"))

        world.actor(work)
        world.run()
        found.append(left(world.redis))

    run(scenario, schedule, url)
    return found[-1]


@pytest.mark.server
def test_a_failover_loses_the_last_write(url: str) -> None:
    """Values of every kind are as they were before it; the writes before are there."""
    pushes = lambda client: (client.rpush("l", "a"), client.rpush("l", "b"))  # noqa: E731
    assert lose_last(pushes, lambda client: client.lrange("l", 0, -1), url, "AAAo") == [b"a"]
    first = lambda client: client.set("k", "v")  # noqa: E731
    assert lose_last(first, lambda client: client.exists("k"), url, "AAo") == 0
    leases = lambda client: (client.set("k", "v", ex=100), client.delete("k"))  # noqa: E731
    assert 90 < lose_last(leases, lambda client: client.ttl("k"), url, "AAAo") <= 100
    script = lambda client: (client.rpush("l", "a"), client.eval("redis.call('RPUSH', 'l', 'b')", 0))  # noqa: E731
    assert lose_last(script, lambda client: client.lrange("l", 0, -1), url, "AAAo") == [b"a"]


@pytest.mark.server
def test_a_failover_forgets_that_an_entry_was_delivered(url: str) -> None:
    """The pending list of a group is data like any other."""

    def write(client: Client) -> None:
        client.xgroup_create("s", "g", id="0", mkstream=True)
        client.xadd("s", {"n": 1})
        client.xreadgroup("g", "c", {"s": ">"})

    assert lose_last(write, lambda client: client.xpending("s", "g")["pending"], url, "AAAAo") == 0


def test_a_failover_loses_nothing_by_commands_that_changed_nothing(url: str) -> None:
    """The last write is the last that was one."""

    def write(client: Client) -> None:
        client.rpush("l", "a")
        client.lpop("empty")
        client.lrem("l", 0, "none")

    assert lose_last(write, lambda client: client.lrange("l", 0, -1), url, "AAAAo") == []


@pytest.mark.server
def test_a_failover_undoes_what_the_lost_write_woke(url: str) -> None:
    """A job that a BLMOVE has moved as soon as it came is in neither list."""

    def scenario(world: World) -> None:
        moved = world.actor(lambda client: [client.blmove("jobs", "doing", 9), attempt(lambda: client.get("x"))][0])
        world.actor(lambda client: client.rpush("jobs", "a"))
        world.run()
        assert moved.result == b"a"
        assert world.redis.exists("jobs", "doing") == 0

    run(scenario, "ABAo", url)


def test_a_failover_leaves_a_lock_with_two_owners(url: str) -> None:
    """A lock on one server with a replica does not survive a failover."""

    def lock(client: Client, name: str) -> bool:
        tries = [attempt(lambda: client.set("lock", name, nx=True)) for _ in range(2)]
        return True in tries

    def scenario(world: World) -> None:
        owners = [world.actor(lock, "one"), world.actor(lock, "two")]
        world.run()
        assert sum(actor.result for actor in owners) <= 1

    assert explore(scenario, url=url, schedules=40).failure is None
    failure = explore(scenario, url=url, schedules=100, faults="failover:server").failure
    assert failure
    assert str(failure.schedule) == "AAoB"


# -- queues under them -----------------------------------------------------------------------------------------------


def test_a_server_without_persistence_loses_jobs_and_so_does_a_failover(url: str) -> None:
    """Found by the one line, and said as what it is."""
    for fault in ("restart-empty:server", "failover:server"):
        failure = explore(
            queue_scenario(ReliableList("jobs"), "at-least-once", consumers=1, messages=1), url=url, faults=fault
        ).failure
        assert failure, fault
        assert "at-least-once broken: " in str(failure.error)


@pytest.mark.parametrize("fault", ["drop", "pause", "restart:server", "script-flush:server"])
@pytest.mark.parametrize("queue", [ReliableList("jobs"), StreamGroup("jobs", "workers")], ids=["list", "group"])
def test_the_supplied_queues_hold(url: str, queue: Any, fault: str) -> None:
    """The faults that at-least-once covers: lost connections, slow workers, a server that restarts with its data."""
    explore(queue_scenario(queue, "at-least-once", messages=2), url=url, faults=fault, schedules=25).verify()


def test_a_blocking_list_loses_what_a_client_was_given_as_it_was_killed(url: str) -> None:
    """At most once is what it promises, under all of them."""
    every = "drop, pause, restart:server, restart-empty:server, script-flush:server"
    explore(
        queue_scenario(BlockingList("jobs"), "at-most-once", messages=2), url=url, faults=every, schedules=60
    ).verify()
