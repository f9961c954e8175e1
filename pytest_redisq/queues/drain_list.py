"""Empty a list of any length into an iterator of chunks, with memory flat on both sides. How: see draining.py."""

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
    """Yield the list's elements from its head in chunks of at most `chunk`, and remove them.

        for elements in drain(client, "jobs"):
            write(elements)

    It drains what is there when it begins (at the first `next`); what is pushed meanwhile stays for the next drain. A
    missing key is an empty list; a key of another type raises ResponseError (WRONGTYPE). Chunks are shorter where
    elements are so large that one would pass 1 MiB, judged by those before it. Neither side ever holds more than two or
    three chunks beside the list itself.

    `at-least-once`: a chunk is removed when the next one is asked for. If the consumer dies or breaks off before
    that, that chunk and the rest lie in a private key beside `key`, and the next `drain` of `key` begins with them:
    at once after an exception or `close`, `lease_seconds` after the last chunk when the process was killed. So
    nothing is lost, and what is drained twice is at most the one chunk that was in hand. Two drainers at once share
    nothing. One that sits on a chunk for longer than its lease while another drainer comes by loses its claim:
    RedisqError at the next chunk. While it goes on, what has been claimed is not visible under `key` (LLEN, BLPOP,
    RPUSHX).

    What other drains still hold when it ends is logged as a warning, and `unfinished_drains` tells of it. The generator
    returns it, too (`held = yield from drain(…)`): a tuple, empty where the whole list was drained.

    `at-most-once`: chunks are popped (LPOP with a count, or a script where the server has none) and no more of them
    than there were at the start; a chunk is lost when the consumer dies with it in hand or its reply gets lost.
    """
    recommend_hiredis()
    if guarantee == "at-most-once":
        return _pop_chunks(client, key, chunk)
    if guarantee != "at-least-once":
        raise ValueError(f"guarantee={guarantee!r}: at-least-once or at-most-once")
    return _drain_chunks(client, Drainer(key, chunk=chunk, lease_seconds=lease_seconds))


def unfinished_drains(client: redis.Redis, key: str) -> tuple[UnfinishedDrain, ...]:
    """What drains of the list `key` have claimed and not finished, the oldest first, whether they live or not."""
    with contextlib.closing(QueueConnection(client)) as wire:
        return run(Drainer(key, chunk=1, lease_seconds=1).unfinished(), wire.call)


def _drain_chunks(client: redis.Redis, drainer: Drainer) -> Generator[list[bytes], None, tuple[UnfinishedDrain, ...]]:
    with contextlib.closing(QueueConnection(client)) as wire:
        try:
            while (claim := run(drainer.next_claim(), wire.call)) is not None:
                chunks = ReadAhead(drainer, claim, wire)
                while elements := chunks.read():
                    count = len(elements)
                    yield elements
                    del elements  # so that we hold no old chunk while the next one comes
                    chunks.commit(count)
            return _warned(run(drainer.passed_over(), wire.call))
        finally:
            with contextlib.suppress(RedisError):  # then the lease runs out by itself
                run(drainer.release(), wire.call)


def _warned(held: tuple[UnfinishedDrain, ...]) -> tuple[UnfinishedDrain, ...]:
    """Log that other drains hold this much."""
    for each in held:
        _log.warning(f"not all was drained: {each}")
    return held


def _pop_chunks(client: redis.Redis, key: str, chunk: int) -> Generator[list[bytes], None, tuple[UnfinishedDrain, ...]]:
    with contextlib.closing(QueueConnection(client)) as wire:
        left, pops, average = run(measure(key), wire.call)
        while left > 0 and (elements := run(pop(key, fitting(min(chunk, left), average), pops), wire.call)):
            left -= len(elements)
            average = average_bytes(elements)
            yield elements
        return _warned(run(Drainer(key, chunk=chunk, lease_seconds=1).unfinished(), wire.call))


async def drain_async(
    client: redis.asyncio.Redis,
    key: str,
    *,
    chunk: int = 10_000,
    guarantee: Guarantee = "at-least-once",
    lease_seconds: float = 60.0,
) -> AsyncGenerator[list[bytes], None]:
    """`drain` for asyncio; under `at-least-once` the next chunk is on its way while one is dealt with. Wrap it in
    `contextlib.aclosing` if you may break off, so that the claim is released at once. What other drains still hold when
    it ends is logged as a warning.
    """
    recommend_hiredis()
    wire = AsyncQueueConnection(client)
    if guarantee == "at-most-once":
        left, pops, average = await run_async(measure(key), wire.call)
        count = fitting(min(chunk, left), average)
        while left > 0 and (elements := await run_async(pop(key, count, pops), wire.call)):
            left -= len(elements)
            count = fitting(min(chunk, left), average_bytes(elements))
            yield elements
        _warned(await run_async(Drainer(key, chunk=chunk, lease_seconds=1).unfinished(), wire.call))
        await wire.close()
        return
    drainer = Drainer(key, chunk=chunk, lease_seconds=lease_seconds)
    ahead: asyncio.Task[list[bytes]] | None = None
    try:
        while (claim := await run_async(drainer.next_claim(), wire.call)) is not None:
            elements = await run_async(drainer.read(claim), wire.call)
            while elements:
                count = len(elements)
                ahead = asyncio.create_task(run_async(drainer.read(claim, skip=count), wire.call))
                yield elements
                elements = await ahead  # before the commit, which moves what it counts from
                await run_async(drainer.commit(claim, count), wire.call)
        _warned(await run_async(drainer.passed_over(), wire.call))
    finally:
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
        with contextlib.suppress(RedisError):
            await run_async(drainer.release(), wire.call)
        await wire.close()
