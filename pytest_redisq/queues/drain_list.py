"""Drains a list of any length as an iterator of chunks, with constant memory on both sides. See draining.py for how."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Generator
from typing import Literal

import redis
import redis.asyncio
from redis.exceptions import RedisError

from pytest_redisq.queues.connection import AsyncQueueConnection, QueueConnection, recommend_hiredis
from pytest_redisq.queues.draining import Drainer, UnfinishedDrain, average_bytes, fitting, measure, pop
from pytest_redisq.queues.read_ahead import ReadAhead
from pytest_redisq.queues.steps import run, run_async

_log = logging.getLogger("pytest_redisq")

Guarantee = Literal["at-least-once", "at-most-once"]


def drain(
    client: redis.Redis,
    key: str,
    *,
    chunk: int = 10_000,
    guarantee: Guarantee = "at-least-once",
    lease_seconds: float = 60.0,
) -> Generator[list[bytes], None, tuple[UnfinishedDrain, ...]]:
    """Yield the list's elements in chunks from its head, and remove them.

        for elements in drain(client, "jobs"):
            write(elements)

    It drains the elements that are in the list at the first `next`. Elements pushed later stay for the next drain.

    * `key`: the list. A missing key counts as an empty list.
    * `chunk`: the most elements of a chunk; default 10,000. Chunks of large elements are shorter: about 1 MiB. Neither
      the server nor the client holds more than two or three chunks in addition to the list.
    * `guarantee`: "at-least-once" (default) or "at-most-once", see below.
    * `lease_seconds`: how long a claim is protected after the last chunk; default 60.

    Returns the claims that other drains still hold (`held = yield from drain(…)`): a tuple, empty if the whole list was
    drained. They are also logged as a warning, and `unfinished_drains` lists them.

    Raises ResponseError (WRONGTYPE) for a key that is not a list, ValueError for an unknown guarantee, and RedisqError
    if another drainer took the claim over.

    `at-least-once`: a chunk is removed when the next one is requested. If the consumer stops or dies before that, the
    chunk and the rest are kept in a private key, and the next `drain` of `key` starts with them: at once after an
    exception or `close`, and `lease_seconds` after the last chunk if the process was killed. So no element is lost, and
    at most one chunk is drained twice. If the server dies and loses its last writes, also elements that come back with
    that may be drained twice. Two drainers at the same time share no element. A drainer that takes longer than
    its lease for a chunk may lose its claim to another drainer. Claimed elements are not visible under `key` (LLEN,
    BLPOP, RPUSHX).

    `at-most-once`: chunks are popped, by LPOP with a count, or by a script on servers before 6.2. A chunk is lost if
    the consumer dies before it has handled it, or if its reply is lost.
    """
    recommend_hiredis()
    if guarantee == "at-most-once":
        return _pop_chunks(client, key, chunk)
    if guarantee != "at-least-once":
        raise ValueError(f'guarantee={guarantee!r} must be "at-least-once" or "at-most-once"')
    return _drain_chunks(client, Drainer(key, chunk=chunk, lease_seconds=lease_seconds))


def unfinished_drains(client: redis.Redis, key: str) -> tuple[UnfinishedDrain, ...]:
    """The unfinished claims on the list `key`, of living and dead drains, the oldest first."""
    with contextlib.closing(QueueConnection(client)) as connection:
        return run(Drainer(key, chunk=1, lease_seconds=1).unfinished(), connection.call)


def _drain_chunks(client: redis.Redis, drainer: Drainer) -> Generator[list[bytes], None, tuple[UnfinishedDrain, ...]]:
    with contextlib.closing(QueueConnection(client)) as connection:
        try:
            while (claim := run(drainer.next_claim(), connection.call)) is not None:
                chunks = ReadAhead(drainer, claim, connection)
                while elements := chunks.read():
                    count = len(elements)
                    yield elements
                    del elements  # free the old chunk before the next one arrives
                    chunks.commit(count)
            return _warned(run(drainer.passed_over(), connection.call))
        finally:
            with contextlib.suppress(RedisError):  # then the lease expires by itself
                run(drainer.release(), connection.call)


def _warned(held: tuple[UnfinishedDrain, ...]) -> tuple[UnfinishedDrain, ...]:
    """Log the claims that other drains hold. Returns them."""
    for each in held:
        _log.warning(f"the list was not drained completely: {each}")
    return held


def _pop_chunks(client: redis.Redis, key: str, chunk: int) -> Generator[list[bytes], None, tuple[UnfinishedDrain, ...]]:
    with contextlib.closing(QueueConnection(client)) as connection:
        left, pops, average = run(measure(key), connection.call)
        while left > 0 and (elements := run(pop(key, fitting(min(chunk, left), average), pops), connection.call)):
            left -= len(elements)
            average = average_bytes(elements)
            yield elements
        return _warned(run(Drainer(key, chunk=chunk, lease_seconds=1).unfinished(), connection.call))


async def drain_async(
    client: redis.asyncio.Redis,
    key: str,
    *,
    chunk: int = 10_000,
    guarantee: Guarantee = "at-least-once",
    lease_seconds: float = 60.0,
) -> AsyncGenerator[list[bytes], None]:
    """`drain` for asyncio, with the same parameters and errors.

    Wrap it in `contextlib.aclosing` if the loop may end early, so that the claim is released at once. With
    `at-least-once` the next chunk is requested while the current one is handled. Claims that other drains still hold at
    the end are logged as a warning.
    """
    recommend_hiredis()
    connection = AsyncQueueConnection(client)
    if guarantee == "at-most-once":
        left, pops, average = await run_async(measure(key), connection.call)
        count = fitting(min(chunk, left), average)
        while left > 0 and (elements := await run_async(pop(key, count, pops), connection.call)):
            left -= len(elements)
            count = fitting(min(chunk, left), average_bytes(elements))
            yield elements
        _warned(await run_async(Drainer(key, chunk=chunk, lease_seconds=1).unfinished(), connection.call))
        await connection.close()
        return
    drainer = Drainer(key, chunk=chunk, lease_seconds=lease_seconds)
    ahead: asyncio.Task[list[bytes]] | None = None
    try:
        while (claim := await run_async(drainer.next_claim(), connection.call)) is not None:
            elements = await run_async(drainer.read(claim), connection.call)
            while elements:
                count = len(elements)
                ahead = asyncio.create_task(run_async(drainer.read(claim, skip=count), connection.call))
                yield elements
                elements = await ahead  # before the commit, which moves the position that `skip` counts from
                await run_async(drainer.commit(claim, count), connection.call)
        _warned(await run_async(drainer.passed_over(), connection.call))
    finally:
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        with contextlib.suppress(RedisError):
            await run_async(drainer.release(), connection.call)
        await connection.close()
