"""An asyncio client that closes with the loop it was used in.

A fixture that suits pytest-asyncio in both its modes, anyio and `IsolatedAsyncioTestCase` can be a coroutine of none of
them: it is a plain function that hands out a client, which connects in whichever loop the test runs in. When the
fixture ends, that loop is not running, or closed already, so that `aclose` cannot be awaited in it.

So the first connection made in a loop starts an asynchronous generator there, which does nothing but disconnect when
it is closed; and every loop closes its asynchronous generators before it is closed itself (`loop.shutdown_asyncgens`,
which `asyncio.Runner` calls, and so all of the above). A loop that outlives the fixture is at rest by then, and is run
for the moment that it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import redis.asyncio


@contextlib.contextmanager
def closing_with_its_loop(make: Callable[..., redis.asyncio.Redis]) -> Iterator[redis.asyncio.Redis]:
    """The client that `make` makes, for use in any loops one after another; closed in each, at the latest at the end.

    `make` must pass its keyword arguments on to `redis.asyncio.Redis`.
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
            # One that runs on, in a thread of the test's own, will see to it itself when it ends.
            if not loop.is_closed() and not loop.is_running():
                loop.run_until_complete(closer.aclose())


async def _disconnect_at_the_end(client: redis.asyncio.Redis) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await client.aclose()
