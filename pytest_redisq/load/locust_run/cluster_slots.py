"""A Redis Cluster as a target: the keys of a run share a hash tag, and so a slot, of the node that the URL names.

Blocking pops and scripts that use several keys need them in one slot anyhow. To load all nodes, run once for each.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, cast

import redis
from redis.crc import key_slot

from pytest_redisq.errors import ServerError
from pytest_redisq.servers.key_lease import REGISTRY


def run_for(client: redis.Redis, token: Callable[[], str]) -> str:
    """Returns a name for a run, made by `token`. On a node of a cluster it falls into one of the node's slots.

    Raises ServerError if the node has no slots.
    """
    if not int(client.info("cluster").get("cluster_enabled", 0)):
        return token()
    slots = _own_slots(client)
    if not slots:
        raise ServerError(
            "This node of the cluster holds no slots, so that no key can be written to it: it is a replica, or new.\n"
            "What to do: give the URL of a primary; redis-cli cluster nodes lists them."
        )
    while key_slot((run := token()).encode()) not in slots:
        pass
    return run


def registry_at(client: redis.Redis) -> str:
    """Returns the key of the registry of runs on this server (see `servers.key_lease`)."""
    return REGISTRY % run_for(client, map(str, itertools.count()).__next__)


def _own_slots(client: redis.Redis) -> set[int]:
    reply: Any = cast(Any, client).execute_command("CLUSTER SLOTS")
    mine = cast(Any, client).execute_command("CLUSTER MYID")
    owned: set[int] = set()
    for first, last, primary, *_ in reply:
        if _text(primary[2]) == _text(mine):
            owned.update(range(int(first), int(last) + 1))
    return owned


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)
