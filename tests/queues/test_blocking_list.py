"""BLPOP workers: each job once, in order, and a stop that is at once and loses nothing."""

from __future__ import annotations

import asyncio
import pickle
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pytest_redisq.queues import AsyncBoundQueue, BlockingList, BoundQueue, Stopped, bound
from pytest_redisq.servers import Server
from tests.interrupts import interrupted_at, lines_of
from tests.support import eventually, in_time

JOBS = BlockingList("jobs")


def drained(worker: BoundQueue) -> list[bytes]:
    """The messages that the worker gets until it is stopped."""
    got = []
    while True:
        try:
            delivery = worker.get()
        except Stopped:
            return got
        assert delivery is not None
        got.append(delivery.body)


def test_first_in_first_out(client: redis.Redis) -> None:
    with JOBS.bind(client) as worker:
        for body in (b"a", b"b\n\x00\xff", b""):
            assert worker.put(body) is None
        assert [worker.get(1).body for _ in range(3)] == [b"a", b"b\n\x00\xff", b""]


def test_urgent_keys_are_served_first(client: redis.Redis) -> None:
    jobs = BlockingList("jobs", urgent=("now", "soon"))
    with jobs.bind(client) as worker:
        worker.put(b"later")
        client.rpush("soon", "soon")
        client.rpush("now", "now")
        got = [worker.get(timeout) for timeout in (1, 0, None)]
        assert [(d.source, d.body) for d in got if d] == [("now", b"now"), ("soon", b"soon"), ("jobs", b"later")]


@pytest.mark.parametrize("seconds", [0, 0.0004, 0.05])
def test_an_empty_queue_returns_none_after_the_timeout_and_not_for_ever(client: redis.Redis, seconds: float) -> None:
    with JOBS.bind(client) as worker:
        began = time.monotonic()
        assert worker.get(seconds) is None
        # Redis counts in milliseconds, and its clock and ours tick apart.
        assert seconds - 0.002 <= time.monotonic() - began < seconds + 5


@pytest.mark.slow
def test_redis_py_defaults_do_not_break_a_long_wait(
    default_client: redis.Redis, client: redis.Redis, in_thread: Callable[..., Any], until_blocked: Callable[..., None]
) -> None:
    """On redis-py 8 the client's own BLPOP would time out after five seconds, reconnect, and lose what comes then."""
    with JOBS.bind(default_client) as worker:
        got = in_thread(worker.get)
        until_blocked()
        blocked = [c["id"] for c in client.client_list() if c["cmd"] == "blpop"]
        assert len(blocked) == 1
        with pytest.raises(AssertionError):
            got.result(6)
        assert [c["id"] for c in client.client_list() if c["cmd"] == "blpop"] == blocked
        client.rpush("jobs", "job")
        assert got.result().body == b"job"


def test_stop_ends_a_blocked_get_at_once(
    client: redis.Redis, in_thread: Callable[..., Any], until_blocked: Callable[..., None]
) -> None:
    def block_and_stop() -> None:
        with JOBS.bind(client) as worker:
            got = in_thread(worker.get)
            until_blocked()
            worker.stop()
            with pytest.raises(Stopped, match=r"stop\(\) was called on BlockingList\(.*\) of this worker"):
                got.result()
            with pytest.raises(Stopped):
                worker.get(0)

    in_time(0.25, block_and_stop)


def test_stop_works_from_a_signal_handler_of_the_blocked_thread(client: redis.Redis) -> None:
    with JOBS.bind(client) as worker:
        before = signal.signal(signal.SIGALRM, lambda *_: worker.stop())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Stopped):
                worker.get(5)
        finally:
            signal.signal(signal.SIGALRM, before)


def test_closing_waits_for_a_stop_that_has_only_begun(
    client: redis.Redis,
    in_thread: Callable[..., Any],
    until_blocked: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stopper may be late in starting its thread: by then the pop has come back by itself."""
    begun, go_on, start = threading.Event(), threading.Event(), threading.Thread.start

    def start_late(thread: threading.Thread) -> None:
        if thread.name == "redisq-_unblock":
            begun.set()
            go_on.wait(10)
        start(thread)

    worker = JOBS.bind(client)
    got = in_thread(worker.get)
    until_blocked()
    monkeypatch.setattr(threading.Thread, "start", start_late)
    stopping = in_thread(worker.stop)
    begun.wait(10)
    client.rpush("jobs", "job")
    assert got.result().body == b"job"
    closing = in_thread(worker.close)
    with pytest.raises(AssertionError):
        closing.result(0.1)
    go_on.set()
    assert closing.result() is stopping.result() is None


def test_a_stop_that_races_with_a_push_loses_nothing(client: redis.Redis, in_thread: Callable[..., Any]) -> None:
    """Every job is either handed out or still in the list, whichever comes first."""
    handed_out, left = 0, 0
    for round_number in range(150):
        with JOBS.bind(client) as worker:
            got = in_thread(drained, worker)
            eventually(lambda: client.info("clients")["blocked_clients"] == 1)
            both = threading.Barrier(2)
            pushed = in_thread(lambda: (both.wait(), client.rpush("jobs", round_number)))  # noqa: B023
            both.wait()
            worker.stop()
            pushed.result()
            handed_out += len(got.result())
            left += client.llen("jobs")
            client.delete("jobs")
    assert handed_out + left == 150


def test_workers_share_the_jobs_and_all_stop(client: redis.Redis, in_thread: Callable[..., Any]) -> None:
    workers = [JOBS.bind(client) for _ in range(4)]
    results = [in_thread(drained, worker) for worker in workers]
    bodies = [b"%d" % number for number in range(500)]
    client.rpush("jobs", *bodies)
    eventually(lambda: client.llen("jobs") == 0)
    for worker in workers:
        worker.stop()
    got = [result.result() for result in results]
    assert sorted(body for share in got for body in share) == sorted(bodies)
    assert all(share == sorted(share, key=int) for share in got)
    for worker in workers:
        worker.close()


def test_a_connection_lost_in_the_wait_is_told_and_the_next_wait_can_be_stopped(
    client: redis.Redis, in_thread: Callable[..., Any], until_blocked: Callable[..., None]
) -> None:
    """The reconnect has changed the client's id: to unblock the old one, as the story's stopper does, is in vain."""
    with JOBS.bind(client) as worker:
        got = in_thread(worker.get)
        until_blocked()
        old_id = next(c["id"] for c in client.client_list() if c["cmd"] == "blpop")
        client.client_kill_filter(_id=old_id)
        with pytest.raises(redis.ConnectionError):
            got.result()
        got = in_thread(worker.get)
        until_blocked()
        assert client.client_unblock(int(old_id)) == 0
        worker.stop()
        with pytest.raises(Stopped):
            got.result()


def test_a_worker_outlives_its_server(
    server: Server, client: redis.Redis, in_thread: Callable[..., Any], until_blocked: Callable[..., None]
) -> None:
    with JOBS.bind(client) as worker:
        got = in_thread(worker.get)
        until_blocked()
        server.restart()
        with pytest.raises(redis.ConnectionError):
            got.result()
        worker.put(b"job")
        assert worker.get(1).body == b"job"


def test_a_worker_that_may_not_unblock_is_cut_off_and_told(
    client: redis.Redis, in_thread: Callable[..., Any], until_blocked: Callable[..., None]
) -> None:
    client.acl_setuser("poor", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-client|unblock"])
    address = {name: client.connection_pool.connection_kwargs[name] for name in ("host", "port")}
    with redis.Redis(**address, username="poor", password="secret") as poor, JOBS.bind(poor) as worker:
        got = in_thread(worker.get)
        until_blocked()
        worker.stop()
        with pytest.raises(redis.ConnectionError):
            got.result()


def test_a_killed_worker_loses_the_job_it_held(
    client: redis.Redis, child: Callable[[str], subprocess.Popen[str]]
) -> None:
    """At most once, as it says of itself; `ReliableList` is the one that does not."""
    with JOBS.bind(client) as worker:
        worker.put(b"doomed")
        victim = child("print(BlockingList('jobs').bind(client).get().body.decode()); import signal; signal.pause()")
        assert victim.stdout is not None
        assert victim.stdout.readline() == "doomed\n"
        victim.kill()
        victim.wait()
        assert (worker.recover(), worker.remaining(), worker.pending(), worker.get(0)) == (0, [], [], None)


def test_acknowledging_and_recovering_have_nothing_to_do(client: redis.Redis) -> None:
    with JOBS.bind(client) as worker:
        worker.put(b"a")
        worker.put(b"b")
        delivery = worker.get(1)
        assert delivery is not None
        assert (worker.remaining(), worker.pending(), worker.recover(), worker.trimmed()) == ([b"b"], [], 0, [])
        assert worker.ack(delivery)
        worker.give_back(delivery)
        assert worker.remaining() == [b"a", b"b"]


def test_it_pickles_as_its_description(client: redis.Redis) -> None:
    with JOBS.bind(client) as worker:
        copy = pickle.loads(pickle.dumps(worker))
        assert copy == JOBS
        with copy.bind(client) as other:
            other.put(b"job")
        assert worker.get(1).body == b"job"


def test_async_get_put_and_stop(server: Server, client: redis.Redis) -> None:
    async def use() -> None:
        async with server.async_client() as asyncio_client, JOBS.bind(asyncio_client) as worker:
            await worker.put(b"a")
            assert (await worker.get(1)).body == b"a"
            assert await worker.get(0.01) is None
            got = asyncio.create_task(worker.get())
            await blocked(client, got)
            await worker.stop()
            with pytest.raises(Stopped):
                await asyncio.wait_for(got, 1)

    asyncio.run(use())


def test_a_cancelled_get_loses_nothing(server: Server, client: redis.Redis) -> None:
    """redis-py's own BLPOP, cancelled while the reply is on its way, loses the element."""

    async def use() -> list[bytes]:
        got = []
        async with server.async_client() as asyncio_client, JOBS.bind(asyncio_client) as worker:
            for number in range(100):
                task = asyncio.create_task(worker.get())
                await blocked(client, task)
                client.rpush("jobs", number)  # synchronously: the reply is there, the loop has not seen it
                task.cancel()
                got += [d.body for d in await asyncio.gather(task, return_exceptions=True) if not _is_error(d)]
                delivery = await worker.get(0)
                got += [] if delivery is None else [delivery.body]
        return got

    assert asyncio.run(use()) == [b"%d" % number for number in range(100)]


def test_what_a_cancelled_get_had_taken_is_given_back_on_close(server: Server, client: redis.Redis) -> None:
    async def use() -> None:
        async with server.async_client() as asyncio_client, JOBS.bind(asyncio_client) as worker:
            task = asyncio.create_task(worker.get())
            await blocked(client, task)
            client.rpush("jobs", "a", "b")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(use())
    assert client.lrange("jobs", 0, -1) == [b"a", b"b"]


def test_bind_chooses_the_face_by_the_client(server: Server, client: redis.Redis) -> None:
    async def use() -> bool:
        async with server.async_client() as asyncio_client, JOBS.bind(client).bind(asyncio_client) as worker:
            return isinstance(worker, AsyncBoundQueue)

    assert asyncio.run(use())


async def blocked(client: redis.Redis, task: asyncio.Task[Any]) -> None:
    while not client.info("clients")["blocked_clients"]:
        assert not task.done()
        await asyncio.sleep(0)


def _is_error(value: Any) -> bool:
    return isinstance(value, BaseException)


def test_a_close_waits_for_what_a_stop_is_about_to_start(
    client: redis.Redis, in_thread: Callable[..., Any], until_blocked: Callable[..., None], monkeypatch: Any
) -> None:
    """Seen in a run on a busy machine: `cannot join thread before it is started`."""
    worker = BlockingList("jobs").bind(client)
    got = in_thread(worker.get)
    until_blocked()
    starts, may_start = threading.Event(), threading.Event()
    start = threading.Thread.start

    def slow_start(thread: threading.Thread) -> None:
        if thread.name == "redisq-_unblock":
            starts.set()
            assert may_start.wait(10)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", slow_start)
    stopped = in_thread(worker.stop)
    assert starts.wait(10)
    closed = in_thread(worker.close)
    may_start.set()
    for each in (stopped, closed):
        each.result()
    with pytest.raises(Stopped):
        got.result()


@pytest.mark.timeout(60)
def test_a_queue_is_closed_at_whichever_line_ctrl_c_has_ended_a_get(client: redis.Redis) -> None:
    queues = [JOBS.bind(client)]

    def get() -> None:
        assert queues[-1].get(0.001) is None

    lines = lines_of(get, within=bound.__file__)
    assert len(lines) > 10
    for line in lines:
        queues[-1].close()
        queues.append(JOBS.bind(client))
        assert interrupted_at(line, get, within=bound.__file__) == "interrupted", line
    queues[-1].close()
