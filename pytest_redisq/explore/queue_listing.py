"""The bodies that a queue lists as being in it, asked by a client that is connected directly to the server."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from pytest_redisq.endpoint.forms import awaited
from pytest_redisq.explore.queue_side import QueueSide
from pytest_redisq.explore.resources import Resources

_LISTS = ("remaining", "pending")


def listed_bodies(side: QueueSide, resources: Resources) -> list[list[bytes]]:
    """The bodies that the queue lists as `remaining`, and as `pending`; none where it cannot list them."""
    if not side.is_async:
        endpoint = side.open(resources.url if side.gets == "url" else resources.direct)
        try:
            return [list(endpoint.call(what) or ()) for what in _LISTS]
        finally:
            endpoint.close()

    async def list_bodies() -> list[list[bytes]]:
        async with resources.async_client(resources.url) as client:
            endpoint = side.open(resources.url if side.gets == "url" else client)
            try:
                return [list(await awaited(endpoint.call(what)) or ()) for what in _LISTS]
            finally:
                await endpoint.close_async()

    # In a thread of its own: an event loop may be running the scenario.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, list_bodies()).result()
