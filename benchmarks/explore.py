"""The cost of exploring, as ratios within one run: a scheduled command compared with the same command sent directly by
redis-py; the setup and cleanup of an execution; and a comparison with `frontrun`, if installed, on races it supports.

    python benchmarks/explore.py [--rounds N]

Needs redis-server or valkey-server on PATH, or the extra `embedded`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from pytest_redisq.explore import World, explore
from pytest_redisq.options import Settings
from pytest_redisq.servers import start

COMMANDS = 100  # by each of two clients


def seconds(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def push_many(client: redis.Redis) -> None:
    for _ in range(COMMANDS):
        client.rpush("jobs", "x")


def push_often(client: redis.Redis) -> None:
    for _ in range(10):
        push_many(client)


def two_pushers(world: World) -> None:
    world.actor(push_many)
    world.actor(push_many)
    world.run()


def do_nothing(_: redis.Redis) -> None:
    """An actor without a command."""


def two_idlers(world: World) -> None:
    world.actor(do_nothing)
    world.actor(do_nothing)
    world.run()


# -- races that frontrun can see: no commands that block, no faults ---------------------------------------------------

Work = Callable[[redis.Redis], list[bytes]]


@dataclass(frozen=True)
class Race:
    """Actors that work on the data of `ready`. The scenario holds if they and `left` have each of `jobs` once."""

    ready: Callable[[redis.Redis], object]
    broken: tuple[Work, ...]
    right: tuple[Work, ...]
    left: Callable[[redis.Redis], list[bytes]]
    jobs: tuple[bytes, ...]

    def holds(self, taken: list[list[bytes]], client: redis.Redis) -> bool:
        return sorted([job for some in taken for job in some] + self.left(client)) == list(self.jobs)


def push_jobs(client: Any) -> None:
    client.rpush("jobs", "a", "b")


def list_left(client: Any) -> list[bytes]:
    left: list[bytes] = client.lrange("jobs", 0, -1)
    return left


def peek_and_pop(client: Any) -> list[bytes]:
    job = client.lindex("jobs", 0)
    if job is not None:
        client.lpop("jobs")
    return [job]


def just_pop(client: Any) -> list[bytes]:
    return [client.lpop("jobs")]


def drain_by_trimming(client: Any) -> list[bytes]:
    length = client.llen("jobs")
    jobs: list[bytes] = client.lrange("jobs", 0, length - 1)
    client.ltrim("jobs", length, -1)
    return jobs


def drain_by_popping(client: Any) -> list[bytes]:
    jobs: list[bytes] = []
    while found := client.lpop("jobs", 3):
        jobs += found
    return jobs


def schedule_one(client: Any) -> None:
    client.zadd("delayed", {"a": 1})


def schedule_another(client: Any) -> list[bytes]:
    client.zadd("delayed", {"b": 2})
    return []


def take_due(client: Any) -> list[bytes]:
    due: list[bytes] = client.zrangebyscore("delayed", 0, 10)
    client.zremrangebyscore("delayed", 0, 10)
    return due


def take_one_due(client: Any) -> list[bytes]:
    return [job for job, _ in client.zpopmin("delayed")]


def scheduled_left(client: Any) -> list[bytes]:
    left: list[bytes] = client.zrange("delayed", 0, -1)
    return left


RACES = {
    "LINDEX and LPOP": Race(push_jobs, (peek_and_pop,) * 2, (just_pop,) * 2, list_left, (b"a", b"b")),
    "two drainers": Race(push_jobs, (drain_by_trimming,) * 2, (drain_by_popping,) * 2, list_left, (b"a", b"b")),
    "ZRANGEBYSCORE and ZREMRANGEBYSCORE": Race(
        schedule_one, (take_due, schedule_another), (take_one_due, schedule_another), scheduled_left, (b"a", b"b")
    ),
}


def scenario_of(race: Race, works: tuple[Work, ...]) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        race.ready(world.redis)
        clients = [world.actor(work) for work in works]
        world.run()
        assert race.holds([client.result for client in clients], world.redis)

    return scenario


class Frontrun:
    """The same races, written for frontrun."""

    def __init__(self, url: str) -> None:
        self._explore = importlib.import_module("frontrun").explore
        self._url = url

    def executions(self, race: Race, works: tuple[Work, ...]) -> int:
        """The number of executions until a failure, or until no more are left."""

        def ready() -> list[list[bytes]]:
            with redis.Redis.from_url(self._url) as client:
                client.flushdb()
                race.ready(client)
            return [[] for _ in works]

        def worker(index: int) -> Callable[[list[list[bytes]]], None]:
            def run(taken: list[list[bytes]]) -> None:
                with redis.Redis.from_url(self._url) as client:
                    taken[index] = works[index](client)

            return run

        def holds(taken: list[list[bytes]]) -> bool:
            with redis.Redis.from_url(self._url) as client:
                return race.holds(taken, client)

        workers = [worker(index) for index in range(len(works))]
        result = self._explore(setup=ready, workers=workers, invariant=holds, reproduce_on_failure=0)
        return int(result.num_explored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is taken (default: 7)")
    parser.add_argument("--rival", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    rounds = options.rounds
    if options.rival:
        race_of_the_rival(options.rival, rounds)
        return
    server = start(Settings())
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        print(server.header())
        measure(server.url, rounds)


def measure(url: str, rounds: int) -> None:
    with redis.Redis.from_url(url) as client:
        ratios, scheduled, empty = [], [], []
        for _ in range(rounds):
            direct = seconds(lambda: push_often(client)) / (10 * COMMANDS)
            scheduled.append(each_further_run(two_pushers, url, 10) / (2 * COMMANDS))
            ratios.append(scheduled[-1] / direct)
            empty.append(each_further_run(two_idlers, url, 100))
    print(f"a scheduled command: {statistics.median(scheduled) * 1e6:.0f} µs, {1 / statistics.median(scheduled):.0f}/s")
    print(f"  against the same sent directly: {statistics.median(ratios):.2f} × (wanted: at most 2)")
    print(f"set-up and clean-up of a run of two clients: {statistics.median(empty) * 1e3:.2f} ms (wanted: at most 2)")
    race(url, rounds)


def each_further_run(scenario: Callable[[World], None], url: str, runs: int) -> float:
    """Seconds for each further execution of an exploration."""
    one = seconds(lambda: passing(scenario, url, 1))
    return (seconds(lambda: passing(scenario, url, 1 + runs)) - one) / runs


def passing(scenario: Callable[[World], None], url: str, schedules: int) -> None:
    """Explore `scenario`. Raises AssertionError if it fails: a failure would end the measurement early."""
    failure = explore(scenario, url=url, schedules=schedules).failure
    assert failure is None, failure


def failing(scenario: Callable[[World], None], url: str, schedules: int) -> None:
    failure = explore(scenario, url=url, schedules=schedules).failure
    assert failure is not None
    assert isinstance(failure.error, AssertionError), failure


def race(url: str, rounds: int) -> None:
    ours = {name: race_ourselves(each, url, rounds) for name, each in RACES.items()}
    theirs = race_the_rival(url, rounds)
    for name, (found, rate) in ours.items():
        print(f"{name}: found and shrunk in {found * 1e3:.0f} ms; the right version: {rate:.0f} executions/s")
        if name in theirs:
            their_found, their_rate = theirs[name]
            print(f"  frontrun: found in {their_found * 1e3:.0f} ms; the right version: {their_rate:.0f} executions/s")
            print(f"  ahead of it (wanted: more than 1): {their_found / found:.1f} × and {rate / their_rate:.1f} ×")


def race_ourselves(each: Race, url: str, rounds: int) -> tuple[float, float]:
    """Seconds to the first failure, shrunk, and executions per second of the right version; medians."""
    broken, right = scenario_of(each, each.broken), scenario_of(each, each.right)
    found = [seconds(lambda: failing(broken, url, 300)) for _ in range(rounds)]
    rates = [200 / seconds(lambda: passing(right, url, 200)) for _ in range(rounds)]
    return statistics.median(found), statistics.median(rates)


def race_the_rival(url: str, rounds: int) -> dict[str, list[float]]:
    """The same measurements with frontrun, if it is installed."""
    if importlib.util.find_spec("frontrun") is None:
        print("frontrun is not installed (pip install frontrun): not compared")
        return {}
    # frontrun needs its own launcher, which must not influence the measurements of redisq.
    launcher = str(Path(sys.executable).with_name("frontrun"))
    command = [launcher, sys.executable, __file__, "--rounds", str(rounds), "--rival", url]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    return dict(json.loads(said.strip().splitlines()[-1]))


def race_of_the_rival(url: str, rounds: int) -> None:
    rival = Frontrun(url)
    told: dict[str, list[float]] = {}
    for name, each in RACES.items():
        found, rates = [], []
        for _ in range(rounds):
            found.append(seconds(lambda: rival.executions(each, each.broken)))  # noqa: B023
            began = time.perf_counter()
            rates.append(rival.executions(each, each.right) / (time.perf_counter() - began))
        told[name] = [statistics.median(found), statistics.median(rates)]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
