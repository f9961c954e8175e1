"""BLMOVE workers: a job is done at least once if a worker dies, and living workers keep their jobs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from pytest_redisq.queues import BoundQueue, ReliableList
from pytest_redisq.queues.connection import QueueConnection
from pytest_redisq.queues.reliable_list import ReliableListEndpoint
from pytest_redisq.queues.steps import RedisCommand, run
from pytest_redisq.servers import Server

JOBS = ReliableList("jobs", lease_seconds=0.3)

HOLDING = """
worker = ReliableList("jobs", lease_seconds=0.3).bind(client, "victim")
job = worker.get()
print("holding", job.body.decode(), flush=True)
"""


def body_of(worker: BoundQueue, timeout_seconds: float | None = 5.0) -> bytes | None:
    delivery = worker.get(timeout_seconds)
    return None if delivery is None else delivery.body


def test_a_job_stays_pending_until_it_is_acknowledged(client: redis.Redis) -> None:
    with JOBS.bind(client) as worker:
        worker.put(b"a")
        worker.put(b"b")
        job = worker.get(1)
        assert job is not None
        assert (worker.remaining(), worker.pending()) == ([b"b"], [b"a"])
        assert worker.ack(job)
        assert (worker.remaining(), worker.pending()) == ([b"b"], [])
        assert not worker.ack(job), "it was acknowledged before"


@pytest.mark.parametrize("seconds", [0, 0.01, 0.35])
def test_an_empty_queue_returns_none_in_time(client: redis.Redis, seconds: float) -> None:
    with JOBS.bind(client) as worker:
        assert worker.get(seconds) is None


def test_a_killed_workers_job_goes_to_another_though_it_is_idle(
    client: redis.Redis, child: Callable[[str], subprocess.Popen[str]]
) -> None:
    with JOBS.bind(client) as worker:
        worker.put(b"precious")
        victim = child(HOLDING + "import signal; signal.pause()")
        assert victim.stdout is not None
        assert victim.stdout.readline() == "holding precious\n"
        assert worker.get(0) is None, "its owner lives"
        victim.kill()
        assert body_of(worker) == b"precious"


def test_a_worker_that_slept_beyond_its_lease_is_told_so_when_it_acknowledges(
    client: redis.Redis, child: Callable[[str], subprocess.Popen[str]]
) -> None:
    with JOBS.bind(client) as worker:
        worker.put(b"precious")
        sleeper = child(HOLDING + "input()\nprint(worker.ack(job))")
        assert sleeper.stdin is not None
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "holding precious\n"
        os.kill(sleeper.pid, signal.SIGSTOP)
        job = worker.get(5)
        assert job is not None
        assert worker.ack(job)
        os.kill(sleeper.pid, signal.SIGCONT)
        sleeper.stdin.write("go on\n")
        sleeper.stdin.flush()
        assert sleeper.stdout.readline() == "False\n"


def test_a_living_worker_is_not_robbed_however_long_its_work_takes(client: redis.Redis) -> None:
    """Three leases long another worker looks for something to do, and finds nothing."""
    with JOBS.bind(client) as busy, JOBS.bind(client) as idle:
        busy.put(b"long")
        job = busy.get(1)
        assert job is not None
        assert idle.get(0.9) is None
        assert idle.recover() == 0
        assert busy.ack(job)


def test_recovered_jobs_come_first_and_in_their_old_order(client: redis.Redis) -> None:
    dead = steps_of("dead")
    with JOBS.bind(client) as worker:
        for body in (b"a", b"b", b"c", b"d"):
            worker.put(body)
        for _ in range(3):
            run(dead.get(0), worker._talk.call)
        expire_heartbeats(client)
        assert worker.recover() == 3
        assert worker.remaining() == [b"a", b"b", b"c", b"d"]


def test_two_recoverers_at_once_give_each_job_back_once(client: redis.Redis, in_thread: Callable[..., Any]) -> None:
    wire = QueueConnection(client)
    bodies = [b"%d" % number for number in range(60)]
    client.rpush("jobs", *bodies)
    for name in range(20):
        dead = steps_of(f"dead-{name}")
        for _ in range(3):
            run(dead.get(0), wire.call)
    expire_heartbeats(client)
    recoverers = [JOBS.bind(client) for _ in range(4)]
    together = threading.Barrier(4)
    counts = [in_thread(lambda end=end: (together.wait(), end.recover())) for end in recoverers]
    assert sum(count.result()[1] for count in counts) == 60
    assert sorted(client.lrange("jobs", 0, -1)) == sorted(bodies)
    for end in recoverers:
        end.close()
    wire.close()


def test_a_lost_reply_strands_nothing(client: redis.Redis) -> None:
    """The server moved the job; the reply never came. The same worker finds it in its own processing list."""
    wire = QueueConnection(client)
    client.rpush("jobs", "a", "b")
    worker = steps_of("unlucky")

    def lossy(step: RedisCommand) -> Any:
        reply = wire.call(step)
        if step.args[0] in ("BLMOVE", "LMOVE"):
            raise redis.ConnectionError("Connection closed by server.")
        return reply

    with pytest.raises(redis.ConnectionError):
        run(worker.get(1), lossy)
    assert client.lrange("jobs", 0, -1) == [b"b"]
    got = [run(worker.get(0), wire.call) for _ in range(3)]
    assert [None if delivery is None else delivery.body for delivery in got] == [b"a", b"b", None]
    wire.close()


@pytest.mark.parametrize(("reaches_the_server", "then"), [(False, [b"a", b"b"]), (True, [b"b", None])])
def test_a_job_whose_acknowledgement_got_lost_is_not_sat_on(
    client: redis.Redis, reaches_the_server: bool, then: list[bytes | None]
) -> None:
    """A worker that lives on delivers it again, if the server never heard the acknowledgement."""
    wire = QueueConnection(client)
    client.rpush("jobs", "a", "b")
    worker = steps_of("unlucky")

    def lossy(step: RedisCommand) -> Any:
        if reaches_the_server:
            wire.call(step)
        raise redis.ConnectionError("Connection closed by server.")

    job = run(worker.get(0), wire.call)
    assert job
    with pytest.raises(redis.ConnectionError):
        run(worker.ack(job), lossy)
    got = [run(worker.get(0), wire.call) for _ in range(2)]
    assert [None if delivery is None else delivery.body for delivery in got] == then
    wire.close()


def test_a_worker_that_comes_back_under_its_name_finds_its_jobs_at_once(client: redis.Redis) -> None:
    wire = QueueConnection(client)
    client.rpush("jobs", "a", "a", "b")
    before = ReliableListEndpoint(ReliableList("jobs", lease_seconds=600), "w1")
    for _ in range(2):
        run(before.get(0), wire.call)
    after = ReliableListEndpoint(ReliableList("jobs", lease_seconds=600), "w1")
    got = [run(after.get(0), wire.call) for _ in range(4)]
    assert [None if delivery is None else delivery.body for delivery in got] == [b"a", b"a", b"b", None]
    wire.close()


def test_a_worker_that_leaves_frees_its_jobs_at_once_and_leaves_no_keys(client: redis.Redis) -> None:
    patient = ReliableList("jobs", lease_seconds=600)
    with patient.bind(client) as worker:
        with patient.bind(client) as leaver:
            leaver.put(b"unfinished")
            assert leaver.get(1)
        job = worker.get(1)
        assert job is not None
        assert worker.ack(job)
        worker.recover()
    assert [key for key in client.scan_iter() if client.type(key) == b"list"] == []


def test_what_is_given_back_is_next(client: redis.Redis) -> None:
    with JOBS.bind(client) as worker:
        worker.put(b"a")
        worker.put(b"b")
        job = worker.get(1)
        assert job is not None
        worker.give_back(job)
        assert (worker.remaining(), worker.pending()) == ([b"a", b"b"], [])


def test_a_dead_workers_name_is_forgotten_only_after_a_day(client: redis.Redis) -> None:
    """A server may still hold a sleeping worker's BLMOVE; a job moved by it must be found."""
    wire = QueueConnection(client)
    run(steps_of("late").beat(), wire.call)
    run(steps_of("old").beat(), wire.call)
    expire_heartbeats(client)
    with JOBS.bind(client) as worker:
        worker.recover()
        client.rpush("jobs:processing:late:{jobs}", "moved late")
        client.zincrby("jobs:workers:{jobs}", -90_000, "old")
        assert worker.recover() == 1
        assert client.zrange("jobs:workers:{jobs}", 0, -1) == [b"late"]
    wire.close()


def test_async_workers_beat_too(server: Server, client: redis.Redis) -> None:
    async def use() -> None:
        async with server.async_client() as one, JOBS.bind(one) as busy, JOBS.bind(one) as idle:
            await busy.put(b"long")
            job = await busy.get(1)
            assert job is not None
            assert await idle.get(0.9) is None
            assert await busy.ack(job)

    asyncio.run(use())
    assert client.llen("jobs") == 0


@pytest.mark.parametrize("worker", ["", "a{b", "}"])
def test_a_name_that_would_break_key_names_is_refused(client: redis.Redis, worker: str) -> None:
    with pytest.raises(ValueError, match="must not be empty or contain braces"):
        JOBS.bind(client, worker)


def test_a_lease_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lease_seconds=0\.001 must be at least 0\.03"):
        ReliableList("jobs", lease_seconds=0.001)


def steps_of(worker: str) -> ReliableListEndpoint:
    """A worker without a heartbeat thread: dead once `expire_heartbeats` says so, however slow the machine is."""
    return ReliableListEndpoint(replace(JOBS, lease_seconds=60.0), worker)


def expire_heartbeats(client: redis.Redis) -> None:
    """Let a lease's time pass, without waiting for it."""
    for key in client.keys("jobs:alive:*"):
        client.delete(key)
