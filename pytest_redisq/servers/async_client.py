"""An asyncio client that is closed together with the event loop that used it.

A fixture that works with pytest-asyncio in both its modes, anyio and `IsolatedAsyncioTestCase` cannot be a coroutine.
It is a plain function that returns a client, which connects in the loop of the test. When the fixture ends, that loop
is not running any more, or closed. So `aclose` cannot be awaited in it.

So the first connection in a loop starts an asynchronous generator there. Closing the generator disconnects the client.
Every loop closes its asynchronous generators before it is closed (`loop.shutdown_asyncgens`, which `asyncio.Runner`
calls). If a loop outlives the fixture, it is not running then, and is run briefly to close the generator.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import redis.asyncio


@contextlib.contextmanager
def closing_with_its_loop(make: Callable[..., redis.asyncio.Redis]) -> Iterator[redis.asyncio.Redis]:
    """Yields a client that can be used in several loops, one after the other. It is closed in each of them.

    `make`: creates the client. It must pass its keyword arguments to `redis.asyncio.Redis`.
    """
    closers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None]] = {}

    async def connected(connection: Any) -> None:
        await connection.on_connect()
        loop = asyncio.get_running_loop()
        if loop not in closers:
            closers[loop] = _disconnect_at_the_end(client)
            await anext(closers[loop])

    client = make(redis_connect_func=connected)
    try:
        yield client
    finally:
        for loop, closer in closers.items():
            # A loop that still runs, in a thread of the test, closes its generator itself when it ends.
            if not loop.is_closed() and not loop.is_running():
                loop.run_until_complete(closer.aclose())


async def _disconnect_at_the_end(client: redis.asyncio.Redis) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await client.aclose()
