"""Where explorations take place: what `explore` and `replay` need, to keep to a corner of a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import redis
import redis.asyncio

from pytest_redisq.servers.corner import Corner


class ExplorationArguments(TypedDict):
    """Arguments of `explore` and `replay`."""

    url: str
    clean: Callable[[], None] | None
    client: Callable[[str], redis.Redis]
    async_client: Callable[[str], redis.asyncio.Redis]


def exploration_arguments(corner: Corner) -> ExplorationArguments:
    """Explore in this corner, which each run finds empty, with clients that keep to it and do nothing twice."""
    address = corner.address
    named = frozenset(address.seen)

    def clean() -> None:
        corner.clean()
        address.seen.update(named)  # by `key`, whose keys programs write without our seeing it

    return ExplorationArguments(
        url=address.url,
        clean=clean if address.prefix else None,
        client=lambda url: address.through(url).client(),
        async_client=lambda url: address.through(url).async_client(),
    )
