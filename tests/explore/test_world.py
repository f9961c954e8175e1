"""world.py, execution_loop.py, actor_controller.py: which actor may act, how time passes, how executions fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import redis
import redis.asyncio

from pytest_redisq.explore import (
    ActorKilled,
    DeadlockError,
    EndlessError,
    ScheduleError,
    StuckError,
    World,
    explore,
    replay,
)
from pytest_redisq.faults import EXPLORE_FAULTS
from tests.explore.leaks import assert_nothing_is_left, footprint
from tests.support import eventually

Client = Any


def test_a_correct_blpop_consumer_never_times_out(url: str) -> None:
    """With a timeout of 30 s it gets every job, on every schedule, and no time passes: not for it, not for us."""

    def consume(client: Client) -> list[bytes]:
        return [client.blpop("jobs", timeout=30)[1] for _ in range(3)]

    def scenario(world: World) -> None:
        consumer = world.actor(consume)
        world.actor(lambda client: [client.rpush("jobs", job) for job in "abc"])
        world.run()
        assert consumer.result == [b"a", b"b", b"c"]

    assert explore(scenario, url=url, exhaustive=True).verify().complete


def test_a_timeout_fires_when_nothing_else_can_happen(url: str) -> None:
    """An hour of BLPOP takes no time; a shorter sleep of another actor ends before it."""

    def scenario(world: World) -> None:
        waiting = world.actor(lambda client: client.blpop("jobs", timeout=3600))
        late = world.actor(lambda client: (time.sleep(1800), client.rpush("log", "x"))[1])
        world.run()
        assert waiting.result is None
        assert late.result == 1

    began = time.monotonic()
    assert str(replay(scenario, "", url=url).schedule) == "ABtBAt"
    assert time.monotonic() - began < 5


def test_the_clock_is_the_schedules_under_whatever_name_it_was_imported(url: str) -> None:
    """`from time import time`, as Dramatiq does it, in a module that was there before; and it is given back."""
    borrower = ModuleType("borrower")
    vars(borrower).update(sleep=time.sleep, time=time.time, monotonic=time.monotonic)

    def hour() -> list[int]:
        before = borrower.time(), borrower.monotonic()
        borrower.sleep(3600)
        return [round(borrower.time() - before[0]), round(borrower.monotonic() - before[1])]

    def scenario(world: World) -> None:
        actor = world.actor(lambda client: (client.ping(), hour())[1])
        world.run()
        assert actor.result == [3600, 3600]

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "borrower", borrower)
        assert replay(scenario, "", url=url).error is None
    assert (borrower.sleep, borrower.time, borrower.monotonic) == (time.sleep, time.time, time.monotonic)


def test_a_killed_coroutine_clears_up_and_waits_for_nothing(url: str) -> None:
    """No time passes for a killed actor; an interruption would leave its connections open."""
    cleared = []

    def scenario(world: World) -> None:
        async def slow_to_die(client: Client) -> None:
            try:
                await client.get("x")
            finally:
                with contextlib.suppress(asyncio.CancelledError):  # if it lost its connection before it was told to die
                    await asyncio.sleep(3600)
                await asyncio.sleep(3600)
                cleared.append(True)

        actor = world.actor(slow_to_die)
        world.run()
        assert actor.killed

    assert replay(scenario, "Ak", url=url).error is None
    assert cleared == [True]


def test_what_the_code_of_a_dead_actor_raises_is_nobodys_failure(url: str) -> None:
    """A library wraps the loss of its connection in an error of its own: a killed process would not."""

    def scenario(world: World) -> None:
        def wraps(client: Client) -> None:
            try:
                client.get("x")
            except redis.ConnectionError as error:
                raise RuntimeError("closed") from error

        actor = world.actor(wraps)
        world.run()
        assert actor.killed

    assert replay(scenario, "Ak", url=url).error is None
    assert isinstance(
        replay(scenario, "Ar", url=url, client=partial(redis.Redis.from_url, retry=None)).error, RuntimeError
    )


def test_a_timeout_may_fire_early_as_a_fault(url: str) -> None:
    """The fault "timeout" lets a wait end although other actors could act."""

    def scenario(world: World) -> None:
        waiting = world.actor(lambda client: client.blpop("jobs", timeout=30))
        world.actor(lambda client: client.rpush("jobs", "a"))
        world.run()
        assert waiting.result

    assert explore(scenario, url=url, schedules=50).failure is None
    failure = explore(scenario, url=url, schedules=50, faults="timeout").failure
    assert failure
    assert str(failure.schedule) == "AAtB"


@pytest.mark.parametrize("is_async", [False, True])
def test_an_actor_may_start_late(url: str, is_async: bool) -> None:
    """In virtual time: the lease of the first has run out then."""

    def hold(client: Client) -> bool:
        return bool(client.set("lock", 1, nx=True, ex=60))

    async def hold_async(client: Client) -> bool:
        return bool(await client.set("lock", 1, nx=True, ex=60))

    def scenario(world: World, after_seconds: float) -> None:
        first = world.actor(hold, name="first")
        late = world.actor(hold_async if is_async else hold, name="late", after_seconds=after_seconds)
        world.run()
        assert (first.result, late.result) == (True, True)
        assert world.now == after_seconds

    explore(lambda world: scenario(world, 61), url=url, schedules=10).verify()
    assert replay(lambda world: scenario(world, 59), "", url=url).error
    refused = replay(lambda world: world.actor(take_one, gets="url", process="spawn", after_seconds=1), "", url=url)
    assert str(refused.error).startswith("after_seconds=1: a process has the real clock")


def test_keys_expire_by_the_schedules_clock(url: str) -> None:
    """A lock with a lease of 30 s is there after 29 s and gone after 31."""

    def scenario(world: World) -> None:
        def lock(client: Client) -> list[bytes | None]:
            client.set("lock", "me", ex=30)
            client.set("kept", "me")
            time.sleep(29)
            before = client.get("lock")
            time.sleep(2)
            return [before, client.get("lock"), client.get("kept")]

        actor = world.actor(lock)
        world.run()
        assert actor.result == [b"me", None, b"me"]

    assert replay(scenario, "", url=url).error is None


def test_pending_entries_have_been_idle_by_the_schedules_clock(url: str) -> None:
    """A job of a killed worker is claimed after its minute, not before."""

    def work(client: Client) -> None:
        client.xreadgroup("g", "dead", {"s": ">"})
        client.ping()
        client.xack("s", "g", "0-1")

    def claim(client: Client) -> list[int]:
        found = []
        for _ in range(2):
            found.append(len(client.xautoclaim("s", "g", "recovery", min_idle_time=60_000)[1]))
            time.sleep(61)
        found.append(len(client.xautoclaim("s", "g", "recovery", min_idle_time=60_000)[1]))
        return found

    def scenario(world: World) -> None:
        world.redis.xgroup_create("s", "g", id="0", mkstream=True)
        world.redis.xadd("s", {"n": 1})
        world.actor(work)
        recovery = world.actor(claim)
        world.run()
        assert recovery.result == [0, 1, 1]

    execution = replay(scenario, "AAk", url=url)
    assert execution.error is None


def test_actors_may_wait_for_each_other_by_events(url: str) -> None:
    """`threading.Event` between actors is seen; its timeout is virtual, too."""

    def scenario(world: World) -> None:
        ready = threading.Event()

        def first(client: Client) -> bool:
            seen = ready.wait(30)
            client.rpush("log", "first")
            return seen

        def second(client: Client) -> None:
            client.rpush("log", "second")
            ready.set()

        one = world.actor(first)
        world.actor(second)
        world.run()
        assert one.result is True
        assert world.redis.lrange("log", 0, -1) == [b"second", b"first"]

    assert explore(scenario, url=url, schedules=30).failure is None


def test_a_deadlock_is_a_verdict_of_its_own(url: str) -> None:
    """Two actors that wait for each other: the error says in which command each waits."""

    def scenario(world: World) -> None:
        world.actor(lambda client: client.blpop("x", timeout=0), name="one")
        world.actor(lambda client: client.blpop("y", timeout=0), name="two")
        world.run()

    execution = replay(scenario, "", url=url)
    assert isinstance(execution.error, DeadlockError)
    assert str(execution.error).splitlines()[1:] == [
        "  A (one) is blocked in BLPOP x 0",
        "  B (two) is blocked in BLPOP y 0",
    ]


def test_a_background_actor_need_not_end(url: str) -> None:
    """A worker without an end is ended with the run, and its work until then counts."""
    ended: list[str] = []

    def serve(client: Client) -> None:
        try:
            while True:
                client.rpush("done", client.blpop("jobs", timeout=0)[1])
        except ActorKilled:
            ended.append("killed")
            raise
        except redis.ConnectionError:
            ended.append("cut")

    def scenario(world: World) -> None:
        world.actor(serve, background=True)
        world.actor(lambda client: client.rpush("jobs", "a", "b"))
        world.run()
        assert world.redis.lrange("done", 0, -1) == [b"a", b"b"]

    assert explore(scenario, url=url, exhaustive=True).verify().complete
    assert ended


def test_other_actors_run_before_polling_ones(url: str) -> None:
    """One that asks again and again, without a pause, neither hangs the run nor hides the other."""

    def poll(client: Client) -> bytes:
        while (job := client.lpop("jobs")) is None:
            pass
        return bytes(job)

    def scenario(world: World) -> None:
        poller = world.actor(poll)
        world.actor(lambda client: [client.ping(), client.get("x"), client.rpush("jobs", "a")])
        world.run()
        assert poller.result == b"a"

    assert explore(scenario, url=url, schedules=50).failure is None


@pytest.mark.parametrize("beats", [False, True])
def test_time_passes_if_all_actors_poll(beats: bool, url: str) -> None:
    """Two polling actors do not count as progress for each other, so a sleeping actor wakes."""

    def poll(client: Client) -> bytes:
        while (job := client.lpop("jobs")) is None:
            if beats:
                client.set("alive", 1, ex=60)
        return bytes(job)

    def push_late(client: Client) -> None:
        time.sleep(5)
        client.rpush("jobs", "a", "b")

    def scenario(world: World) -> None:
        one, two = world.actor(poll), world.actor(poll)
        world.actor(push_late)
        world.run()
        assert {one.result, two.result} == {b"a", b"b"}

    assert explore(scenario, url=url, schedules=20).failure is None


def test_an_endless_execution_is_reported(url: str) -> None:
    """An actor that goes on and on is stopped at the bound of steps, with what it did last."""

    def scenario(world: World) -> None:
        def forever(client: Client) -> None:
            while True:
                client.incr("n")

        world.actor(forever)
        world.run()

    with pytest.raises(EndlessError, match=r"has not ended after 50 steps; the last were: INCRBY n 1"):
        replay(scenario, "", url=url, max_steps=50)


def test_an_endless_execution_tells_the_errors_of_its_commands(url: str) -> None:
    """An actor tries again and again what the server refuses, and does not say so."""

    def scenario(world: World) -> None:
        world.redis.set("jobs", "text")

        def push(client: Client) -> None:
            while True:
                with contextlib.suppress(redis.ResponseError):
                    client.rpush("jobs", "a")
                client.incr("n")

        world.actor(push)
        world.run()

    with pytest.raises(EndlessError, match="has not ended after 20 steps") as endless:
        replay(scenario, "", url=url, max_steps=20)
    assert "10 × RPUSH: WRONGTYPE Operation against a key holding the wrong kind of value" in str(endless.value)


def test_an_endless_execution_names_the_polling_actors(url: str) -> None:
    """One counts forever, one polls, and one waits for a message that never comes."""

    def scenario(world: World) -> None:
        def poll(client: Client) -> None:
            while client.get("x") is None:
                pass

        def count(client: Client) -> None:
            while True:
                client.incr("n")

        world.actor(poll)
        world.actor(count)
        world.actor(lambda client: client.blpop("x", timeout=0), name="waiter")
        world.run()

    with pytest.raises(EndlessError) as endless:
        replay(scenario, "CBBBAAAA", url=url, max_steps=8)
    assert str(endless.value).splitlines()[1:4] == [
        "  A (poll) polls: it sends again what it has sent, and gets the same replies (4 steps)",
        "  B (count) goes on (3 steps)",
        "  C (waiter) is blocked in BLPOP x 0 (1 steps)",
    ]


def test_an_actor_that_waits_for_a_lock_is_reported(url: str) -> None:
    """A lock that is never released: the message has the line of the scenario that waits.

    Its thread ends long after its run has ended, and its report has no receiver.
    """
    lock = threading.Lock()
    lock.acquire()
    stuck = []

    def wait(client: Client) -> None:
        stuck.append(threading.current_thread())
        lock.acquire()
        client.get("x")

    def scenario(world: World) -> None:
        world.actor(wait, name="stuck")
        world.run()

    with pytest.raises(
        StuckError, match=r"A \(stuck\) waits, and is at\n(.*\n)*.*lock.acquire.*\n.*a lock, a queue.Queue"
    ):
        replay(scenario, "", url=url, patience_seconds=0.3)
    lock.release()
    eventually(lambda: not any(thread.is_alive() for thread in stuck))


def test_an_actor_that_computes_is_waited_for(url: str) -> None:
    """Longer than a waiting actor, but not without limit."""

    def compute(client: Client, seconds: float) -> None:
        until = time.perf_counter() + seconds  # the real clock
        while time.perf_counter() < until:
            pass
        client.set("done", 1)

    def scenario(world: World, seconds: float) -> None:
        world.actor(compute, seconds, name="busy")
        world.run()
        assert world.redis.get("done")

    assert replay(lambda world: scenario(world, 1.5), "", url=url, patience_seconds=1.0).error is None
    with pytest.raises(StuckError, match=r"A \(busy\) has computed for .* s of them, and is at\n(.*\n)*.*patience_sec"):
        replay(lambda world: scenario(world, 60), "", url=url, patience_seconds=0.2)


def test_an_actors_exception_is_the_runs(url: str) -> None:
    """An exception of an actor fails the run, and so does an error reply of the server."""

    def scenario(world: World) -> None:
        world.redis.set("n", "x")
        world.actor(lambda client: client.lpop("n"))
        world.run()

    assert isinstance(replay(scenario, "", url=url).error, redis.ResponseError)


def test_a_killed_actor_does_nothing_more_whatever_its_code_does(url: str) -> None:
    """It may catch what it likes, reconnect, and sleep: nothing reaches the server."""

    def stubborn(client: Client) -> None:
        while True:
            try:
                client.rpush("log", "x")
            except redis.ConnectionError:
                time.sleep(0.1)
                client.connection_pool.disconnect()

    def scenario(world: World) -> None:
        actor = world.actor(stubborn)
        world.run()
        assert actor.killed
        assert actor.result is None
        assert world.redis.llen("log") == 2

    assert replay(scenario, "AAAk", url=url).error is None


# What an exception from outside interrupts, here a connect, cannot always close what it has opened.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_actor_that_swallows_everything_is_interrupted(url: str) -> None:
    """One that spins without a pause after its death is ended all the same."""

    def spinning(client: Client) -> None:
        while True:
            with contextlib.suppress(redis.ConnectionError):
                client.rpush("log", "x")

    def scenario(world: World) -> None:
        world.actor(spinning)
        world.run()
        assert world.redis.llen("log") == 1

    threads = threading.active_count()
    assert replay(scenario, "AAk", url=url).error is None
    assert threading.active_count() == threads


def test_coroutines_are_actors_too(url: str) -> None:
    """Two asyncio actors race like two threads; their sleeps are virtual."""

    async def take(client: Client) -> bytes | None:
        await asyncio.sleep(10)
        job: bytes | None = await client.lindex("jobs", 0)
        if job is not None:
            await client.lpop("jobs")
        return job

    def scenario(world: World) -> None:
        world.redis.rpush("jobs", "a", "b")
        one, two = world.actor(take), world.actor(take)
        world.run()
        assert {one.result, two.result} == {b"a", b"b"}

    failure = explore(scenario, url=url, schedules=100).failure
    assert failure
    assert str(failure.schedule) == "A0tAB0tBBA"


def test_a_coroutine_that_closes_a_connection_counts_as_waiting(url: str) -> None:
    """Its end is seen after it has said that it waits, or before: nothing comes of it for the coroutine to do."""

    async def come_and_go(client: Client) -> None:
        for number in range(40):
            async with redis.asyncio.Redis.from_url(client) as other:
                await other.rpush("log", number)
            await asyncio.sleep(1)

    def scenario(world: World) -> None:
        world.actor(come_and_go, gets="url")
        world.run()
        assert world.redis.llen("log") == 40

    for _ in range(5):
        assert replay(scenario, "", url=url, patience_seconds=2).error is None


def test_one_coroutine_may_have_many_commands_at_once(url: str) -> None:
    """Commands of one event loop on several connections are chosen among, in every order."""
    orders = set()

    async def both(client: Client) -> None:
        await asyncio.gather(client.rpush("log", "x"), client.rpush("log", "y"))

    def scenario(world: World) -> None:
        world.actor(both)
        world.run()
        orders.add(tuple(world.redis.lrange("log", 0, -1)))

    assert explore(scenario, url=url, exhaustive=True).verify().complete
    assert orders == {(b"x", b"y"), (b"y", b"x")}


PROGRAM = """
import os, sys, redis
with redis.Redis.from_url(sys.argv[1], socket_timeout=None) as client:
    assert os.environ["REDIS_URL"] == sys.argv[1]
    if client.lindex("jobs", 0):
        client.lpop("jobs")
        print("took")
"""


def test_programs_are_actors_too(url: str) -> None:
    """Two processes race as the schedule says."""

    def scenario(world: World) -> None:
        world.redis.rpush("jobs", "a")
        command = [sys.executable, "-c", PROGRAM, "{url}"]
        one, two = world.process(command), world.process(command, name="two")
        world.run()
        assert one.result.stdout + two.result.stdout == b"took\n"

    assert replay(scenario, "AABB", url=url).error is None
    assert isinstance(replay(scenario, "ABAB", url=url).error, AssertionError)


def test_a_killed_program_is_killed(url: str) -> None:
    """By SIGKILL, at once; one that fails by itself fails the run."""

    def scenario(world: World) -> None:
        world.redis.rpush("jobs", "a")
        actor = world.process([sys.executable, "-c", PROGRAM + "1 / 0", "{url}"])
        world.run()
        assert actor.killed
        assert world.redis.llen("jobs") == 1

    assert replay(scenario, "AAk", url=url).error is None
    assert isinstance(replay(scenario, "AA", url=url).error, subprocess.CalledProcessError)


def take_one(url: str, key: str) -> bytes | None:
    """For a process of its own, which imports it by name, and whose timeouts take real time."""
    with redis.Redis.from_url(url, socket_timeout=None) as client:
        seen = client.lindex(key, 0)
        return cast(bytes | None, client.lpop(key)) if seen else None


def fail_one(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.incr("n")
        raise ValueError(url.partition(":")[0])


def end_without_a_word(_: str) -> None:
    os._exit(3)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_functions_are_actors_in_processes_of_their_own(url: str, method: Any) -> None:
    """Two that multiprocessing makes race as the schedule says; what they return comes back."""
    outcomes: list[list[bytes | None]] = []

    def scenario(world: World) -> None:
        world.redis.rpush("jobs", "a", "b")
        one, two = (world.actor(take_one, "jobs", gets="url", process=method) for _ in range(2))
        world.run()
        outcomes.append([one.result, two.result])

    assert replay(scenario, "ABAB", url=url).error is None
    assert replay(scenario, "ABBA", url=url).error is None
    assert replay(scenario, "AkBB", url=url).error is None
    assert outcomes == [[b"a", b"b"], [b"b", b"a"], [None, b"a"]]


def test_what_a_process_of_its_own_raises_is_the_runs(url: str) -> None:
    """The exception itself; and its exit code where it has no words left."""

    def doing(function: Callable[..., Any]) -> Any:
        def scenario(world: World) -> None:
            world.actor(function, gets="url", process="spawn")
            world.run()

        return replay(scenario, "", url=url).error

    assert repr(doing(fail_one)) == "ValueError('redis')"
    assert repr(doing(end_without_a_word)) == "ChildProcessError('its process ended with exit code 3')"


def test_a_process_cannot_be_given_a_client(url: str) -> None:
    error = replay(lambda world: world.actor(take_one, process="spawn"), "", url=url).error
    assert str(error) == 'process="spawn" needs gets="url": a client cannot be passed to another process'


PARENT = """
import subprocess, sys, redis
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with redis.Redis.from_url(sys.argv[1], socket_timeout=None) as client:
    client.set("child", child.pid)
    client.get("x")
"""


def test_a_killed_program_takes_its_children_along(url: str) -> None:
    """A master process and its workers, say."""

    def scenario(world: World) -> None:
        actor = world.process([sys.executable, "-c", PARENT, "{url}"])
        world.run()
        assert actor.killed
        child = Path("/proc", world.redis.get("child").decode(), "cmdline")
        eventually(lambda: not child.exists() or not child.read_bytes())  # gone, or not reaped yet

    assert replay(scenario, "AAk", url=url).error is None


def test_a_scenario_with_random_numbers_is_reported(url: str) -> None:
    """Uncontrolled nondeterminism is reported with the first step that differs, and the failure is kept."""
    count = iter(range(1000))

    def moody(client: Client) -> None:
        for _ in range(next(count)):
            client.get("x")
        client.set("x", 1)

    def scenario(world: World) -> None:
        world.actor(moody)
        world.run()
        raise AssertionError

    with pytest.raises(ScheduleError, match="replays 0 of 5 times: step 1 is GET x → nil, not SET x 1 → OK"):
        explore(scenario, url=url, schedules=3).verify()


def test_exploring_leaves_nothing_behind(url: str) -> None:
    """Neither threads, nor files, connections, processes or patched clocks, whatever the end of the actors."""

    def scenario(world: World) -> None:
        world.actor(lambda client: [client.rpush("x", n) for n in range(3)])
        world.actor(lambda client: client.blpop("x", timeout=5))
        with contextlib.suppress(redis.ConnectionError):
            world.run()

    before = footprint(url)
    explore(scenario, url=url, schedules=60, faults=EXPLORE_FAULTS)
    assert_nothing_is_left(url, before)
