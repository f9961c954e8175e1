"""Drains from a server that loses its last writes: in a crash with `appendfsync everysec`, or a failover."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from pytest_redisq.errors import RedisqError
from pytest_redisq.queues import drain, drain_async, drain_file, drain_to_file
from pytest_redisq.queues.connection import QueueConnection
from pytest_redisq.queues.draining import Drainer
from pytest_redisq.queues.steps import RedisCommand, run
from pytest_redisq.servers import Server
from tests.queues.test_drain_file import content
from tests.queues.test_draining import expire_leases, fill

Saved = dict[bytes, tuple[bytes, int]]

#: Elements committed when the server saves its data, and when it crashes and comes back with them.
SAVED_AND_CRASHED = [(100, 200), (300, 600), (100, 900)]

#: A drain that prints the number of safe elements after each commit, and goes on when it gets a line.
STEPWISE = """
from pytest_redisq.queues import drain_journal
drain_journal._LONGEST = {longest}
drain_file.SYNC_BYTES = 1
def progress(done, total):
    print(done, flush=True)
    input()
drain_to_file(client, 'big', {path!r}, chunk=100, progress=progress)
"""


def saved(client: redis.Redis) -> Saved:
    return {key: (client.dump(key), client.pttl(key)) for key in client.scan_iter()}


def bring_back(client: redis.Redis, data: Saved) -> None:
    """All writes since `data` was saved are lost, and so are all connections."""
    with client.pipeline() as transaction:
        transaction.flushall()
        for key, (value, left_ms) in data.items():
            transaction.restore(key, max(0, left_ms), value)
        transaction.execute()
    client.client_kill_filter(_type="normal", skipme=True)


def crashing(client: redis.Redis, save_at: int, crash_at: int) -> Callable[[int, int], object]:
    """A `progress` that saves the data, and later brings them back."""
    data: Saved = {}

    def progress(done: int, _total: int) -> None:
        if done == save_at:
            data.update(saved(client))
        if done == crash_at:
            bring_back(client, data)

    return progress


@pytest.fixture
def each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_file, "SYNC_BYTES", 1)


@pytest.mark.parametrize("name", ["out.txt", "out.zst"])
@pytest.mark.parametrize("sync_bytes", [1, 1800])
@pytest.mark.parametrize(("save_at", "crash_at"), [(1, 2), (1, 5), (3, 5)])
def test_a_running_drain_removes_only_what_it_has_written(
    client: redis.Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    sync_bytes: int,
    save_at: int,
    crash_at: int,
) -> None:
    """Elements that were removed are at the head of the claim again. The drain removes them a second time, and the
    next chunk that it reads is the one that it would have read.
    """
    monkeypatch.setattr(drain_file, "SYNC_BYTES", sync_bytes)
    elements, path, commits = fill(client, 5000), tmp_path / name, itertools.count(1)
    crash = crashing(client, save_at, crash_at)
    done = drain_to_file(client, "big", path, chunk=100, progress=lambda *_: crash(next(commits), 0))
    assert next(commits) > crash_at
    assert (done.elements, done.held) == (5000, ())
    assert content(path).split() == elements
    assert list(client.scan_iter()) == []


@pytest.mark.parametrize(("save_at", "crash_at"), SAVED_AND_CRASHED)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_chunks_are_yielded_once(client: redis.Redis, server: Server, kind: str, save_at: int, crash_at: int) -> None:
    elements, got = fill(client, 1000), []
    progress = crashing(client, save_at, crash_at)

    def take(chunk: list[bytes]) -> None:
        got.extend(chunk)
        progress(len(got), 1000)

    async def all_async() -> None:
        async with server.async_client() as asyncio_client:
            async for chunk in drain_async(asyncio_client, "big", chunk=100):
                take(chunk)

    if kind == "sync":
        for chunk in drain(client, "big", chunk=100):
            take(chunk)
    else:
        asyncio.run(all_async())
    assert got == elements
    assert list(client.scan_iter()) == []


@pytest.mark.parametrize("longest", [2**20, 1], ids=["journal kept", "journal rewritten"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_the_next_drain_does_not_write_again_what_the_journal_knows(
    client: redis.Redis,
    child: Callable[[str], subprocess.Popen[str]],
    tmp_path: Path,
    end: signal.Signals,
    longest: int,
) -> None:
    elements, path = fill(client, 1000), tmp_path / "out.gz"
    victim = child(STEPWISE.format(path=str(path), longest=longest))
    assert victim.stdin is not None
    assert victim.stdout is not None
    data: Saved = {}
    for line in victim.stdout:
        if line == "200\n":
            data = saved(client)
        if line == "600\n":
            break
        victim.stdin.write("\n")
        victim.stdin.flush()
    victim.send_signal(end)
    victim.wait(60)
    bring_back(client, data)
    drain_to_file(client, "big", path, chunk=100)
    assert content(path).split() == elements
    assert list(client.scan_iter()) == []


@pytest.mark.usefixtures("each_chunk")
def test_a_claim_that_came_back_after_its_end_is_told(client: redis.Redis, tmp_path: Path) -> None:
    elements, path = fill(client, 1000), tmp_path / "out.txt"
    done = drain_to_file(client, "big", path, chunk=100, progress=crashing(client, 800, 1000))
    [held] = done.held
    assert held.elements == 200
    drain_to_file(client, "big", path, chunk=100)
    assert path.read_bytes().split() == elements + elements[800:], "they come twice, and none is lost"
    assert list(client.scan_iter()) == []


@pytest.mark.usefixtures("each_chunk")
def test_a_claim_that_the_server_has_forgotten_is_told_and_comes_again(client: redis.Redis, tmp_path: Path) -> None:
    elements, path = fill(client, 1000), tmp_path / "out.txt"
    data = saved(client)

    def progress(done: int, _total: int) -> None:
        if done == 300:
            bring_back(client, data)

    with pytest.raises(RedisqError, match="or the server has lost its last writes"):
        drain_to_file(client, "big", path, chunk=100, progress=progress)
    written = path.read_bytes().split()
    assert written == elements[: len(written)]
    drain_to_file(client, "big", path, chunk=100)
    assert path.read_bytes().split() == written + elements
    assert list(client.scan_iter()) == []


@pytest.fixture
def wire(client: redis.Redis) -> Iterator[QueueConnection]:
    with contextlib.closing(QueueConnection(client)) as wire:
        yield wire


@pytest.mark.parametrize("adopted", [False, True], ids=["by no other drain", "by another drain"])
def test_a_claim_repeated_after_its_lease_does_not_overwrite_the_first(
    client: redis.Redis, wire: QueueConnection, adopted: bool
) -> None:
    """Its reply got lost, the server was silent for longer than the lease, and more elements were pushed since."""
    elements = fill(client, 10)

    def lossy(step: RedisCommand) -> Any:
        reply = wire.call(step)
        if str(step.args[0]).startswith("EVAL") and not client.exists("later"):
            client.set("later", 1)
            expire_leases(client)
            client.rpush("big", "pushed since")
            if adopted:
                assert run(Drainer("big", chunk=5, lease_seconds=60).next_claim(), wire.call) is not None
            raise redis.ConnectionError("Connection closed by server.")
        return reply

    drainer = Drainer("big", chunk=100, lease_seconds=60)
    if adopted:
        with pytest.raises(RedisqError, match="another drainer has taken over"):
            run(drainer.claim(), lossy)
        expire_leases(client)
    else:
        claim = run(drainer.claim(), lossy)
        assert claim is not None
        assert run(drainer.read(claim), wire.call) == elements
        run(drainer.commit(claim, 10), wire.call)
        elements = []
    assert [each for chunk in drain(client, "big") for each in chunk] == [*elements, b"pushed since"]
