"""failure_shrinker.py: a failure that was found is the result, whatever happens while it is shrunk and replayed."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_redisq.explore import Exploration, Schedule, ScheduleError, World, explore
from pytest_redisq.facade import Redisq
from pytest_redisq.servers import Server

FOUND = Schedule.parse("BABBAA")


def add_one(client: Any) -> None:
    value = int(client.get("n") or 0)
    client.get("other")
    client.set("n", value + 1)


def race(world: World) -> None:
    """An update is lost, unless one actor runs after the other."""
    world.actor(add_one)
    world.actor(add_one)
    world.run()
    assert world.redis.get("n") == b"2"


def after_the_first(happens: Callable[[World, int], object]) -> Callable[[World], None]:
    """The race, and `happens(world, n)` before its n-th execution, but not before the first."""
    numbers = itertools.count()

    def scenario(world: World) -> None:
        if number := next(numbers):
            happens(world, number)
        race(world)

    return scenario


def found(url: str, happens: Callable[[World, int], object], **options: Any) -> Exploration:
    return explore(after_the_first(happens), url=url, first=[FOUND], **options)


def test_a_failure_that_nothing_disturbs_is_shrunk_and_replayed(url: str) -> None:
    failure = explore(race, url=url, first=[FOUND]).failure
    assert failure
    assert str(failure.schedule) == "AABBBA"
    assert failure.tried > 5
    assert (failure.stopped, str(failure.replays)) == ("", "replays 1 of 1 times")
    assert "replays" not in failure.explain()


def go_on_for_ever(client: Any) -> None:
    while True:
        client.incr("steps")


def wait_for_a_lock(_: Any) -> None:
    lock = threading.Lock()
    with lock:
        lock.acquire(timeout=5)


def skip(_: World, number: int) -> None:
    if number % 2:
        pytest.skip("not now")


def fail_otherwise(_: World, number: int) -> None:
    if number % 2:
        raise KeyError(number)


@pytest.mark.parametrize(
    ("happens", "options"),
    [
        (skip, {}),
        (fail_otherwise, {}),
        (lambda world, number: number == 2 and world.actor(go_on_for_ever), {}),
        (lambda world, number: number == 2 and world.actor(wait_for_a_lock), {"patience_seconds": 0.1}),
    ],
    ids=["skip", "other error", "endless", "stuck"],
)
def test_an_execution_that_ends_otherwise_does_not_fail_in_the_same_way(
    url: str, happens: Callable[[World, int], object], options: dict[str, Any]
) -> None:
    """It neither ends the shrinking nor replaces the failure."""
    failure = found(url, happens, **options).failure
    assert failure
    assert isinstance(failure.error, AssertionError)
    assert len(failure.schedule) == 6
    assert failure.tried > 5


def test_the_end_of_the_server_stops_the_shrinking(redisq_start: Callable[..., Server]) -> None:
    server = redisq_start()
    failure = found(server.url, lambda _, number: number == 2 and server.stop()).failure
    assert failure
    assert failure.explain().splitlines()[-3].startswith("not shrunk further: ")
    assert isinstance(failure.error, AssertionError)


def test_ctrl_c_while_shrinking_has_the_failure_as_its_cause(url: str) -> None:
    with pytest.raises(KeyboardInterrupt) as interrupt:
        found(url, lambda _, number: number == 2 and signal.raise_signal(signal.SIGINT))
    failure = interrupt.value.__cause__
    assert isinstance(failure, ScheduleError)
    assert "not shrunk further: Ctrl-C" in str(failure).splitlines()
    assert isinstance(failure.__cause__, AssertionError)
    assert len(Schedule.parse(failure.schedule)) == 6


def test_shrinking_has_a_budget(url: str) -> None:
    """No execution begins that would probably end after it, and the failure says so."""
    failure = found(url, lambda _world, _number: time.sleep(0.1), shrink_seconds=0.35, seconds=0.1).failure
    assert failure
    assert failure.tried <= 3
    assert "not shrunk further: its time is over (shrink_seconds)" in failure.explain()
    unshrunk = found(url, lambda _world, _number: pytest.fail("executed again"), shrink_seconds=0, seconds=0).failure
    assert unshrunk
    assert (unshrunk.tried, unshrunk.schedule, unshrunk.replays) == (0, FOUND, None)


def test_a_failure_that_does_not_replay_always_says_how_often(url: str) -> None:
    """As where something beside the schedule decides, here the count of its executions."""
    times = itertools.count()

    def scenario(world: World) -> None:
        world.actor(add_one)
        world.actor(add_one)
        world.run()
        if Schedule(step for _, step in world.choices) == FOUND:
            assert next(times) in (1, 3)

    exploration = explore(scenario, url=url, first=[FOUND])
    assert exploration.failure
    assert str(exploration.failure.replays) == "replays 3 of 5 times"
    text = str(exploration)
    assert text.startswith("schedule 1 fails (replays 3 of 5 times); the shortest")
    assert "\nreplays 3 of 5 times: the result differs\nWhat to do: look for input that the schedule" in text


def test_the_schedule_that_was_found_is_told_if_only_that_one_replays(url: str) -> None:
    """A smaller one that failed once is not."""
    smaller = itertools.count()

    def scenario(world: World) -> None:
        world.actor(add_one)
        world.actor(add_one)
        world.run()
        schedule = Schedule(step for _, step in world.choices)
        assert schedule != FOUND
        assert schedule.switches < 1 or next(smaller)

    failure = explore(scenario, url=url, first=[FOUND]).failure
    assert failure
    assert (failure.schedule, str(failure.replays)) == (FOUND, "replays 1 of 1 times")


def test_progress_is_told_while_shrinking(url: str) -> None:
    """From the failure as it was found, to the smallest one."""
    told: list[tuple[int, str]] = []

    def progress(so_far: Exploration) -> None:
        if so_far.failure:
            told.append((so_far.failure.tried, str(so_far.failure.schedule)))

    explore(race, url=url, first=[FOUND], progress=progress)
    assert told[0] == (0, "BABBAA")
    assert told[-1][0] > 5
    assert told[-1][1] == "AABBBA"


INNER = """
    import os, signal, pytest
    from tests.explore.test_failure_shrinker import FOUND, after_the_first

"""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    return pytester


@pytest.mark.server
def test_ctrl_c_while_shrinking_ends_pytest_and_shows_the_failure(inner: pytest.Pytester) -> None:
    """And it is kept, to be tried first the next time."""
    inner.makepyfile(
        test_it=INNER
        + """
    def test_it(redisq):
        interrupt = lambda world, number: number == 2 and os.kill(os.getpid(), signal.SIGINT)
        redisq.explore(after_the_first(interrupt), first=[FOUND])

    def test_that_is_not_run(redisq):
        pass
"""
    )
    result = inner.runpytest_subprocess("-p", "no:randomly")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["redisq: schedule 1 fails; *", "*SET n 1*", "not shrunk further: Ctrl-C"])
    assert "passed" not in result.stdout.str()
    assert len(list(Path(inner.path).glob(".redisq/*.schedule.json"))) == 1


def test_a_failure_is_stored_before_it_is_shrunk(redisq_server: Server, redisq: Redisq, tmp_path: Path) -> None:
    """So it is there whatever ends the process, such as a timeout that exits."""
    stored: list[str] = []

    def look(_world: World, number: int) -> None:
        if number == 1:
            stored.extend(json.loads(file.read_text())["schedule"] for file in tmp_path.glob("*.schedule.json"))

    keeping = Redisq(server=redisq_server, namespace=redisq._namespace, failure_folder=tmp_path)
    with pytest.raises(ScheduleError):
        keeping.explore(after_the_first(look), first=[FOUND])
    assert stored == [str(FOUND)]


@pytest.mark.server
def test_a_timeout_of_the_whole_test_is_no_failure_of_a_schedule(inner: pytest.Pytester) -> None:
    """While shrinking, the test fails with the failure that was found; while searching, with the timeout."""
    inner.makepyfile(
        test_it=INNER
        + """
    @pytest.mark.timeout(600, method="signal")
    def test_shrinking(redisq):
        time_out = lambda world, number: number == 2 and signal.raise_signal(signal.SIGALRM)
        redisq.explore(after_the_first(time_out), first=[FOUND])

    @pytest.mark.timeout(600, method="signal")
    def test_searching(redisq):
        redisq.explore(lambda world: signal.raise_signal(signal.SIGALRM))
"""
    )
    result = inner.runpytest_subprocess("-p", "no:randomly")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "E*ScheduleError: schedule 1 fails;*",
            "E*not shrunk further: Failed: Timeout (>600.0s) from pytest-timeout.*",
            "*_ test_searching _*",
            "E*Failed: Timeout (>600.0s) from pytest-timeout.",
            "*1 exploration of 1 schedule: 1 fail",
        ]
    )
