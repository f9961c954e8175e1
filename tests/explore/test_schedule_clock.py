"""The server's clock under a schedule: an hour passes, and each of its readings says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pytest_redisq.explore import World, explore, replay
from pytest_redisq.explore.schedule_clock import _id_place
from tests.explore import thorough

Client = Any
pytestmark = thorough.TIME

HOUR = 3600
ASKS = "return redis.call('TIME')"
ASKS_IN_CAPTURE = (
    "#!lua flags=no-writes\nlocal call = redis.pcall\nlocal t = call('time')\nassert(#ARGV == 1)\nreturn t"
)


def seconds_of(found: Any) -> float:
    return int(found[0]) + int(found[1]) / 1e6


def made_id(client: Client) -> float:
    return int(client.xadd("s", {"n": 1}, maxlen=100, approximate=False).split(b"-")[0]) / 1000


READINGS: dict[str, Callable[[Client], float]] = {
    "TIME": lambda client: seconds_of(client.time()),
    "TIME in a script": lambda client: seconds_of(client.eval(ASKS, 0)),
    "TIME in a script with a shebang": lambda client: seconds_of(client.eval(ASKS_IN_CAPTURE, 0, "argument")),
    "TIME in a script by its hash": lambda client: seconds_of(client.register_script(ASKS)()),
    "id of XADD": made_id,
}


@pytest.mark.parametrize("reading", READINGS)
def test_the_servers_clock_is_the_schedules(url: str, reading: str) -> None:
    """Exactly: it agrees with `time.time` of the actor."""

    def reads(client: Client) -> list[float]:
        readings = []
        for _ in range(2):
            readings += [READINGS[reading](client) - time.time()]
            time.sleep(HOUR)
        return readings

    def scenario(world: World) -> None:
        actor = world.actor(reads)
        world.run()
        assert actor.result == pytest.approx([0, 0], abs=0.001)

    explore(scenario, url=url, schedules=3).verify()


@pytest.mark.parametrize(
    ("make", "setup"),
    [
        (lambda client: client.set("k", 1, ex=30), lambda client: client.ping()),
        (lambda client: client.eval("redis.call('SET', 'k', 1, 'EX', 30)", 0), lambda client: client.ping()),
        (lambda client: client.get("k"), lambda client: client.set("k", 1, ex=30)),
    ],
    ids=["by a command", "by a script that declares no key", "by the scenario"],
)
def test_every_key_expires_in_time(url: str, make: Callable[[Client], Any], setup: Callable[[Client], Any]) -> None:
    def scenario(world: World) -> None:
        setup(world.redis)
        actor = world.actor(
            lambda client: (make(client), time.sleep(29), client.exists("k"), time.sleep(2), client.exists("k"))
        )
        world.run()
        assert (actor.result[2], actor.result[4]) == (1, 0)

    explore(scenario, url=url, schedules=1).verify()


def test_the_idle_times_of_consumers_are_the_schedules(url: str) -> None:
    """Also when their entries have been aged, and when they were blocked."""

    def reads(client: Client) -> list[list[int]]:
        client.xgroup_create("s", "g", mkstream=True)
        client.xgroup_createconsumer("s", "g", "idle")
        time.sleep(10)
        client.xreadgroup("g", "busy", {"s": ">"}, block=60_000)
        found = []
        for _ in range(2):
            time.sleep(HOUR)
            found.append([each["idle"] for each in client.xinfo_consumers("s", "g")])
        return found

    def scenario(world: World) -> None:
        reader = world.actor(reads)
        world.actor(lambda client: (time.sleep(20), client.xadd("s", {"n": 1})), name="writer")
        world.run()
        in_order = [[(HOUR + 20) * 1000, HOUR * 1000], [(2 * HOUR + 20) * 1000, 2 * HOUR * 1000]]
        assert [sorted(each, reverse=True) for each in reader.result] == in_order

    explore(scenario, url=url, schedules=2).verify()


def test_an_entry_comes_after_those_that_the_scenario_has_added(url: str) -> None:
    """The scenario's own client has the server's clock, which is later by then: as on a server whose clock is late."""

    def scenario(world: World) -> None:
        later = int((time.time() + 2 * HOUR) * 1000)
        world.redis.xadd("s", {"n": 0}, id=f"{later}-5")
        actor = world.actor(
            lambda client: [client.xadd("s", {"n": 1}), client.xadd("s", {"n": 1}, id="9999999999999-1")]
        )
        world.run()
        assert actor.result == [f"{later}-6".encode(), b"9999999999999-1"]

    assert replay(scenario, "", url=url).error is None


def test_a_script_that_the_server_does_not_know_is_still_unknown(url: str) -> None:
    """Although its text is known: it was sent to another server, or flushed."""

    def asks(client: Client, flush: Callable[[], object]) -> str:
        sha = client.script_load(ASKS)
        client.evalsha(sha, 0)
        flush()
        try:
            client.evalsha(sha, 0)
        except redis.exceptions.NoScriptError:
            return "unknown"
        return "known"

    def scenario(world: World) -> None:
        flushed = world.actor(asks, world.redis.script_flush)
        world.run()
        assert flushed.result == "unknown"
        kept = world.actor(asks, lambda: None)
        world.run()
        assert kept.result == "known"

    assert replay(scenario, "", url=url).error is None


def test_what_goes_by_the_servers_own_clock_is_named(url: str) -> None:
    def asks(client: Client) -> None:
        client.pipeline(transaction=True).time().execute()
        client.fcall("asks", 0)

    def scenario(world: World) -> None:
        world.redis.function_load(
            f"#!lua name=lib\nredis.register_function('asks', function() {ASKS} end)", replace=True
        )
        world.actor(asks)
        world.run()

    result = explore(scenario, url=url, schedules=1)
    told = "not controlled: TIME and the ids of XADD in a transaction, the clock of functions (FCALL)"
    assert told in str(result)
    assert "not controlled" not in str(explore(lambda world: (world.actor(made_id), world.run()), url=url, schedules=1))


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("XADD s * a *", 2),
        ("XADD s 5-1 a *", None),
        ("XADD s NOMKSTREAM * a 1", 3),
        ("XADD s maxlen ~ 5 limit 7 * a 1", 7),
        ("XADD s MINID 5-1 5-2 a *", None),
        ("XADD s", None),
    ],
)
def test_the_id_of_an_entry_is_found(command: str, place: int | None) -> None:
    assert _id_place(command.encode().split()) == place
