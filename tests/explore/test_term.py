"""The faults `term` and `cancel`: an actor is asked to end, and must neither drop what it has begun nor stay."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_redisq.explore import World, explore, queue_scenario, replay
from pytest_redisq.explore.execution import NondeterminismError
from pytest_redisq.queues import BlockingList, ReliableList
from tests.explore import thorough

Client = Any
pytestmark = thorough.TIME


def push(client: Client) -> None:
    for job in ("a", "b"):
        client.rpush("jobs", job)


def jobs_stay(world: World) -> None:
    """Each job is done, or is in a list."""
    lists = [world.redis.lrange(name, 0, -1) for name in ("jobs", "taken", "done")]
    assert {job for each in lists for job in each} == {b"a", b"b"}, lists


# -- threads -----------------------------------------------------------------------------------------------------------


def drops_at_the_end(client: Client, stopped: threading.Event) -> None:
    """Looks at the flag between the pop and the work."""
    while (job := client.blpop("jobs", timeout=5)) and not stopped.is_set():
        client.rpush("done", job[1])


def finishes_at_the_end(client: Client, stopped: threading.Event) -> None:
    """Looks at the flag between two jobs."""
    while not stopped.is_set() and (job := client.blpop("jobs", timeout=5)):
        client.rpush("done", job[1])


def stopping(work: Callable[..., None]) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        stopped = threading.Event()
        world.actor(work, stopped, stop=stopped.set)
        world.actor(push)
        world.run()
        jobs_stay(world)

    return scenario


def test_a_thread_that_is_asked_to_end_drops_no_job(url: str) -> None:
    failure = explore(stopping(drops_at_the_end), url=url, schedules=100, faults="term").failure
    assert failure
    assert "asked to end" in failure.explain()
    assert explore(stopping(finishes_at_the_end), url=url, exhaustive=True, faults="term").verify().complete


def test_a_thread_that_does_not_end_is_killed_after_its_grace(url: str) -> None:
    def deaf(client: Client) -> None:
        client.blpop("jobs", timeout=0)

    def scenario(world: World) -> None:
        world.actor(deaf, stop=lambda: None)
        world.actor(lambda client: client.get("anything"), name="other")
        world.run()

    error = replay(scenario, "AAeB", url=url).error
    assert type(error).__name__ == "GraceError"
    assert str(error).startswith("deaf was asked to end, had not ended 30 s later, and was killed.\n")


def test_stop_is_not_for_processes(url: str) -> None:
    error = replay(lambda world: world.actor(child, gets="url", process="spawn", stop=print), "", url=url).error
    assert "the function's own process gets SIGTERM" in str(error)


# -- tasks -------------------------------------------------------------------------------------------------------------


async def pops(client: Client) -> None:
    """A cancellation between the pop and the push takes the job along."""
    while job := await client.blpop("jobs", timeout=5):
        await asyncio.sleep(1)
        await client.rpush("done", job[1])


async def moves(client: Client) -> None:
    """A job stays in a list until it is done."""
    while job := await client.blmove("jobs", "taken", 5):
        await asyncio.sleep(1)
        await client.pipeline(transaction=True).rpush("done", job).lrem("taken", 1, job).execute()


@pytest.mark.parametrize("fault", ["term", "cancel"])
def test_a_task_that_is_cancelled_drops_no_job(url: str, fault: Any) -> None:
    def scenario_of(work: Callable[..., Any]) -> Callable[[World], None]:
        def scenario(world: World) -> None:
            worker = world.actor(work)
            world.actor(push)
            world.run()
            assert worker.result is None
            jobs_stay(world)

        return scenario

    assert explore(scenario_of(pops), url=url, schedules=100, faults=fault).failure
    asleep = replay(scenario_of(pops), f"ABA0{'e' if fault == 'term' else 'a'}", url=url)
    assert isinstance(asleep.error, AssertionError)
    explore(scenario_of(moves), url=url, schedules=100, faults=fault).verify()


class Pops:
    """A queue of coroutines: a `get` that is cancelled may take a message along."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def put(self, body: bytes) -> None:
        await self.client.rpush("jobs", body)

    async def get(self, timeout_seconds: float) -> bytes | None:
        found = await self.client.blpop("jobs", timeout=timeout_seconds)
        return found[1] if found else None


def test_a_get_that_is_cancelled_takes_no_message_along(url: str) -> None:
    """The supplied queues give a message back, or have it recovered."""
    found = explore(queue_scenario(Pops, "at-least-once", messages=2), url=url, schedules=100, faults="cancel")
    assert found.failure
    for right in (BlockingList("jobs"), ReliableList("jobs")):
        scenario = queue_scenario(right, "at-least-once", messages=2, is_async=True)
        explore(scenario, url=url, schedules=thorough.schedules(30), faults="cancel").verify()


def test_a_task_can_be_told_by_an_event(url: str) -> None:
    """`stop` takes the place of the cancellation; its event belongs to the task's own loop."""

    async def until_stopped(client: Client, stopped: asyncio.Event) -> str:
        await client.ping()
        await stopped.wait()
        return "stopped"

    def scenario(world: World) -> None:
        stopped = asyncio.Event()
        worker = world.actor(until_stopped, stopped, stop=stopped.set)
        world.actor(push)
        world.run()
        assert worker.result == "stopped"

    assert replay(scenario, "A0e", url=url).error is None


def test_a_task_that_is_paused_is_not_cancelled_meanwhile(url: str) -> None:
    """Also while another command of it is blocked in the server."""

    async def two_at_once(client: Client) -> None:
        await asyncio.gather(client.blpop("jobs", timeout=5), client.set("x", 1))

    def scenario(world: World) -> None:
        world.actor(two_at_once)
        world.actor(push)
        world.run()

    with pytest.raises(NondeterminismError, match="step 3 should be Aa"):
        replay(scenario, "AA2pAa", url=url)
    assert replay(scenario, "AAa", url=url).error is None


# -- processes ---------------------------------------------------------------------------------------------------------

WORKER = """
    import redis, signal, sys
    stopped = False
    def stop(*_):
        global stopped
        stopped = True
    signal.signal(signal.SIGTERM, stop)
    client = redis.Redis.from_url(sys.argv[1], socket_timeout=None)
    while {first} (job := client.blpop("jobs", timeout=2)) {then}:
        client.rpush("done", job[1])
    sys.exit(1)
"""


@pytest.mark.slow
def test_a_program_that_gets_sigterm_drops_no_job(url: str, tmp_path: Path) -> None:
    """Its exit status after the signal is no error."""

    def scenario_of(name: str, **places: str) -> Callable[[World], None]:
        script = tmp_path / name
        script.write_text(textwrap.dedent(WORKER).format_map({"first": "", "then": "", **places}))

        def scenario(world: World) -> None:
            world.process([sys.executable, str(script), "{url}"], name="worker")
            world.actor(push)
            world.run()
            jobs_stay(world)

        return scenario

    dropping = scenario_of("dropping.py", then="and not stopped")
    finishing = scenario_of("finishing.py", first="not stopped and")
    assert isinstance(replay(dropping, "AAeB", url=url).error, AssertionError)
    for schedule in ("AAeB", "AeAB", "ABAeA", "ABAAeB"):
        assert replay(finishing, schedule, url=url).error is None


def child(url: str) -> None:
    """Has no handler, so that the signal kills it."""
    import redis

    with redis.Redis.from_url(url, socket_timeout=None) as client:
        client.blpop("jobs", timeout=0)


@pytest.mark.slow
def test_a_process_without_a_handler_dies_of_sigterm(url: str) -> None:
    """Its blocked command is served if the server does not notice first."""

    def scenario(world: World) -> None:
        world.actor(child, gets="url", process="spawn")
        world.actor(push)
        world.run()
        jobs_stay(world)

    execution = replay(scenario, "AAeAnB", url=url)
    assert execution.error is None
    assert "asked to end" in execution.table()
    assert isinstance(replay(scenario, "AAeB", url=url).error, AssertionError)


# -- queues ------------------------------------------------------------------------------------------------------------


class Prefetches:
    """Takes two messages at a time, and drops the second where it ends."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.kept: list[bytes] = []

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", body)

    def get(self, timeout_seconds: float) -> bytes | None:
        if not self.kept and (found := self.client.blpop("jobs", timeout=timeout_seconds)):
            self.kept = [found[1], *(self.client.lpop("jobs", 1) or [])]
        return self.kept.pop(0) if self.kept else None


class GivesBack(Prefetches):
    """The correct twin."""

    def close(self) -> None:
        for body in self.kept:
            self.client.lpush("jobs", body)


def test_a_consumer_that_is_asked_to_end_gives_back_what_it_has_prefetched(url: str) -> None:
    scenario = queue_scenario(Prefetches, "at-least-once", messages=3)
    failure = explore(scenario, url=url, schedules=200, faults="term").failure
    assert failure
    assert "1 lost" in str(failure.error)
    for right in (GivesBack, ReliableList("jobs")):
        scenario = queue_scenario(right, "at-least-once", messages=3)
        explore(scenario, url=url, schedules=thorough.schedules(30), faults="term").verify()
