"""The arguments that make `explore` and `replay` use one namespace of a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import redis
import redis.asyncio

from pytest_redisq.servers.namespace import Namespace


class ExplorationArguments(TypedDict):
    """Arguments of `explore` and `replay`."""

    url: str
    clean: Callable[[], None] | None
    client: Callable[[str], redis.Redis]
    async_client: Callable[[str], redis.asyncio.Redis]
    prefix: str


def exploration_arguments(namespace: Namespace) -> ExplorationArguments:
    """Explore in this namespace, which is emptied before each execution, with clients that never retry a command."""
    address = namespace.address
    named = frozenset(address.seen)

    def clean() -> None:
        namespace.clean()
        address.seen.update(named)  # by `key`: other programs write these keys unseen

    return ExplorationArguments(
        url=address.url,
        clean=clean if address.prefix else None,
        client=lambda url: address.through(url).client(),
        async_client=lambda url: address.through(url).async_client(),
        prefix=address.prefix,
    )
