"""explorer.py: budgets, statements, reports of failures, and the same result for the same seed."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.errors import RedisqError
from pytest_redisq.explore import Schedule, ScheduleError, World, explore, replay
from pytest_redisq.facade import Redisq
from pytest_redisq.queues import BlockingList
from tests.explore.stories import STORIES

BROKEN = STORIES["two drainers"].broken
RIGHT = STORIES["two drainers"].right


def test_a_failure_is_reported_with_its_table_and_its_replay(url: str, snapshot: SnapshotAssertion) -> None:
    """The error, the shortest schedule, and the line that replays it."""
    exploration = explore(BROKEN, url=url, seed=3)
    with pytest.raises(ScheduleError) as failed:
        exploration.verify()
    assert isinstance(failed.value.__cause__, AssertionError)
    text = str(failed.value)
    assert "\n".join(line for line in text.splitlines() if not line.startswith(("schedule", "assert"))) == snapshot
    assert exploration.failure
    assert Schedule.parse(str(exploration.failure.schedule)) == exploration.failure.schedule


def test_exhaustive_ends_in_a_statement(url: str) -> None:
    """All schedules, counted; none is run twice, and what is left out is looked into, here a part of 8!/2^4 = 2520."""

    def scenario(world: World) -> None:
        for jobs in ("a", "b"):
            for _ in range(2):
                world.actor(lambda client, jobs: (client.get("x"), client.lpop(jobs)), jobs)
        world.run()

    exploration = explore(scenario, url=url, exhaustive=True, checks=60)
    assert exploration.complete
    assert exploration.redundant == 0
    assert 50 < exploration.checked <= 60
    checked = f"0 equivalent ones skipped wrongly (checked on a sample of {exploration.checked})"
    assert str(exploration).startswith(f"{exploration.schedules} schedules, {checked}, all hold (")
    unchecked = explore(scenario, url=url, exhaustive=True, checks=0)
    assert str(unchecked).startswith(f"{exploration.schedules} schedules, all hold (")


def test_of_a_small_scenario_all_that_was_left_out_is_looked_into(url: str) -> None:
    """Two actors with three commands each, on keys of their own, can go in 6!/(3!*3!) = 20 orders: all are run."""

    def scenario(world: World) -> None:
        for key in "ab":
            world.actor(lambda client, key: [client.incr(key) for _ in range(3)], key)
        world.run()

    exploration = explore(scenario, url=url, exhaustive=True)
    assert str(exploration).startswith("1 schedules, 0 equivalent ones skipped wrongly (checked on all 19), all hold (")
    exactly, less = (explore(scenario, url=url, exhaustive=True, checks=checks) for checks in (20, 19))
    assert (exactly.checked, exactly.checked_all) == (19, True)
    assert not less.checked_all


@pytest.mark.parametrize(
    "faults",
    [
        "",
        "kill",
        "drop,timeout",
        "pause",
        "restart:server,restart-empty:server",
        "failover:server",
        "lost-reply,cut-reply",
    ],
)
def test_exhaustive_skips_nothing_that_matters(url: str, faults: str) -> None:
    """Every sampled schedule is equivalent to one of those that were run."""

    def push(client: Any) -> None:
        client.set("one", 1)
        client.rpush("jobs", "a")

    def scenario(world: World) -> None:
        world.actor(lambda client: client.blmove("jobs", "doing", 5))
        world.actor(lambda client: client.llen("doing"))
        world.actor(push)
        with contextlib.suppress(redis.ConnectionError):
            world.run()

    exploration = explore(scenario, url=url, exhaustive=True, faults=faults, checks=60)
    assert exploration.verify().complete
    assert exploration.missed == 0
    assert bool(exploration.checked) == (
        faults not in ("restart:server,restart-empty:server", "failover:server")
    )  # there nothing is skipped


def test_what_a_push_moves_in_the_last_step_is_seen(url: str) -> None:
    """C wakes A, whose BLMOVE writes what B reads: that C may come before B shows only by what C does last of all."""
    seen = set()

    def scenario(world: World) -> None:
        mover = world.actor(lambda client: (client.get("x"), client.blmove("jobs", "doing", 5))[1])
        looker = world.actor(lambda client: client.llen("doing"))
        pusher = world.actor(lambda client: client.rpush("jobs", "a"))
        world.run()
        seen.add(str(Schedule(step for _, step in world.choices)))
        assert mover.result
        assert looker.result is not None
        assert pusher.result

    exploration = explore(scenario, url=url, exhaustive=True)
    assert (exploration.missed, exploration.complete) == (0, True)


def test_what_actors_share_beside_redis_is_found_by_lot(url: str) -> None:
    """Their keys differ, so their order was not to matter; but it does."""

    def scenario(world: World) -> None:
        order: list[str] = []
        for key in "ab":
            world.actor(lambda client, key: (client.get(key), order.append(key)), key)
        world.run()
        assert order == ["a", "b"]

    assert explore(scenario, url=url, exhaustive=True, checks=0).verify().schedules == 1
    failure = explore(scenario, url=url, exhaustive=True).failure
    assert failure
    assert str(failure.schedule) == "BA"


def test_known_schedules_do_not_cut_an_exhaustive_search_short(url: str) -> None:
    """The schedule that failed before is tried first, and then all."""
    all_of_them = explore(RIGHT, url=url, exhaustive=True, checks=0).schedules
    assert explore(RIGHT, url=url, exhaustive=True, checks=0, first=[Schedule.parse("AB")]).schedules == all_of_them + 1


def test_exhaustive_finds_what_there_is(url: str) -> None:
    """And every placement of a fault."""
    assert explore(BROKEN, url=url, exhaustive=True).failure
    kill = STORIES["blpop and a kill"]
    assert explore(kill.broken, url=url, exhaustive=True, faults=kill.faults).failure
    held = explore(kill.right, url=url, exhaustive=True, faults=kill.faults)
    assert held.verify().complete


def test_a_budget_of_schedules_or_seconds_is_kept(url: str) -> None:
    """The limit that is reached first ends the search."""
    assert explore(RIGHT, url=url, schedules=7).schedules == 7
    assert not explore(RIGHT, url=url, schedules=7, exhaustive=True).complete
    assert explore(RIGHT, url=url, seconds=0.05).seconds < 2


def test_known_schedules_are_tried_first(url: str) -> None:
    """A schedule that failed before is found again at once."""
    exploration = explore(BROKEN, url=url, first=[Schedule.parse("AABBBA")])
    assert exploration.failure
    assert exploration.failure.number == 0
    assert str(exploration.failure.found) == "AABBBA"


def test_a_known_failure_is_counted_and_the_search_goes_on(url: str) -> None:
    """Whatever else fails is found; what is known is told, and an error that is only similar is not known."""

    def scenario(world: World) -> None:
        one, two = world.actor(lambda client: client.incr("n")), world.actor(lambda client: client.incr("n"))
        world.run()
        assert one.result < two.result, "the known one"
        assert not world.redis.get("other"), "another one"

    assert explore(scenario, url=url).failure
    held = explore(scenario, url=url, known=["the known one", "never seen"], schedules=40)
    failed = held.known["the known one"]
    assert held.outcome == "pass"
    assert 0 < failed < 40
    assert str(held).startswith(f"{40 - failed} schedules hold; {failed} fail as known (the known one) (")
    whole = explore(scenario, url=url, known=["the known one"], exhaustive=True)
    assert "all others hold; 1 fail as known (the known one)" in str(whole)

    def with_another(world: World) -> None:
        world.redis.set("other", 1)
        scenario(world)

    failure = explore(with_another, url=url, known=["the known one"]).failure
    assert failure
    assert "another one" in str(failure.error)


def test_progress_is_reported_after_every_execution(url: str) -> None:
    """With the numbers so far."""
    told: list[int] = []
    explore(RIGHT, url=url, schedules=5, progress=lambda so_far: told.append(so_far.schedules))
    assert told == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "bfs"}, "no such strategy: 'bfs'; the strategies are mix, pos, random, urw, pct"),
        ({"faults": "lost"}, "no such fault: 'lost'. The names are lost-request, lost-reply, "),
        ({"schedules": 0}, "schedules=0 must be at least 1"),
        ({"max_faults": -1}, "max_faults=-1 must be at least 0"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"shrink_seconds": -1}, "shrink_seconds=-1 must be at least 0"),
        ({"known": "1 lost"}, "known='1 lost' must be a list of texts"),
        ({"known": ["1 lost", ""]}, "must be a list of texts that are not empty"),
    ],
)
def test_bad_arguments_are_refused(url: str, options: dict[str, Any], message: str) -> None:
    """Before anything is run, with what there is."""
    with pytest.raises(ValueError, match=message):
        explore(RIGHT, url=url, **options)


def test_a_fault_for_an_unknown_actor_is_rejected(url: str) -> None:
    """It would never strike, and the scenario hold."""
    with pytest.raises(
        ValueError, match="no actor is called 'nobody', which faults= names; the actors are 'A', 'B', '"
    ):
        explore(RIGHT, url=url, schedules=3, faults="kill:nobody")


async def _coroutine_function(_: World) -> None:
    raise AssertionError("it was run")


def _generator_function(_: World) -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        (_coroutine_function, "is not a plain function, so its code would not run"),
        (_generator_function, "is not a plain function, so its code would not run"),
        (BlockingList("jobs"), "is a queue, and no contract was given, so there is nothing to check"),
    ],
)
def test_what_is_no_scenario_is_explained(url: str, scenario: Any, message: str) -> None:
    """If no actor runs, nothing fails, and that is not a verdict."""
    with pytest.raises(TypeError, match=message):
        explore(scenario, url=url, schedules=1)
    with pytest.raises(TypeError, match=message):
        replay(scenario, "A", url=url)


def test_actors_that_never_ran_are_reported(url: str) -> None:
    def scenario(world: World) -> None:
        world.actor(lambda client: client.get("x"), name="reader")

    with pytest.raises(RedisqError, match=r"ended before these actors ran: reader\. Call world\.run\(\)"):
        explore(scenario, url=url, schedules=1)


def test_skips_and_assumptions_are_no_failures(url: str) -> None:
    """They pass through, to pytest and to Hypothesis."""

    def scenario(_: World) -> None:
        pytest.skip("not today")

    with pytest.raises(pytest.skip.Exception):
        explore(scenario, url=url)


def test_exploring_works_inside_given(url: str) -> None:
    """Hypothesis varies the workload around it: each example is explored on an empty database."""

    @given(st.lists(st.sampled_from("abc"), max_size=4), st.integers(1, 3))
    @settings(max_examples=10, deadline=None)
    def check(jobs: list[str], takers: int) -> None:
        assume(jobs)

        def scenario(world: World) -> None:
            world.redis.rpush("jobs", *jobs)
            actors = [world.actor(lambda client: client.lpop("jobs")) for _ in range(takers)]
            world.run()
            taken = [actor.result for actor in actors if actor.result]
            assert len(taken) == min(len(jobs), takers)
            assert len(taken) + world.redis.llen("jobs") == len(jobs)

        explore(scenario, url=url, schedules=10).verify()

    check()


def schedules_of(url: str, seed: int) -> list[str]:
    """The steps of an exploration with faults."""
    seen: list[str] = []

    def scenario(world: World) -> None:
        try:
            RIGHT(world)
        except Exception:  # a drainer that met a fault
            pass
        finally:
            seen.append(str(Schedule(step for _, step in world.choices)))

    explore(scenario, url=url, schedules=60, seed=seed, faults="lost-reply,kill", max_faults=2, client=without_retries)
    return seen


def without_retries(url: str) -> redis.Redis:
    """Although redis-py retries by default."""
    return redis.Redis.from_url(url, retry=None)


def test_a_seed_gives_the_same_schedules_on_every_platform(url: str) -> None:
    """Those that were written down here once."""
    digest = hashlib.sha256(" ".join(schedules_of(url, 5)).encode()).hexdigest()
    assert digest[:16] == "e15b5fa3567b3433"


def test_a_seed_gives_the_same_schedules_in_another_process(url: str) -> None:
    """Through the proxy, with faults, whatever the hash seed."""
    here = schedules_of(url, 5)
    code = f"from tests.explore.test_explorer import *; print(' '.join(schedules_of({str(url)!r}, 5)))"
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "11"}
    )
    assert there.stdout.split() == here
    assert len(set(here)) > 20
    assert schedules_of(url, 6) != here


def test_replaying_the_schedule_of_any_run_gives_that_run(url: str) -> None:
    """Not only of failures, and with faults in it."""
    for schedule in sorted(set(schedules_of(url, 7)))[:20]:
        assert str(replay(RIGHT, schedule, url=url, client=without_retries).schedule) == schedule


def push_by_script(client: Any) -> None:
    client.register_script("return redis.call('RPUSH', KEYS[1], ARGV[1])")(["jobs"], ["a"])


def test_a_schedule_is_replayed_on_a_server_that_knows_no_script_yet(url: str, redisq: Redisq) -> None:
    """It was found on one that did: two actors, a script each, and no SCRIPT LOAD in the schedule."""

    def scenario(world: World) -> None:
        for _ in range(2):
            world.actor(push_by_script)
        world.run()
        assert world.redis.llen("jobs") == 2

    redisq.client.script_flush()
    execution = replay(scenario, "BA", url=url)
    assert (execution.error, str(execution.schedule)) == (None, "BA")
