"""Whether this process and the server can hold so many connections, checked before a run."""

from __future__ import annotations

import resource
from typing import cast

import redis

#: File descriptors that a process needs for itself: Locust, gevent, logs.
_OWN = 200


def connection_obstacle(connections: int, processes: int, client: redis.Redis) -> str | None:
    """Returns why `connections` more are not possible in `processes`, and what to do; None if they are."""
    needed = -(-connections // processes) + _OWN
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > hard != resource.RLIM_INFINITY:
        return (
            f"{connections} connections need {needed} file descriptors in each process, which may have {hard}.\n"
            f"What to do: ulimit -Hn {needed} as root, or spread the load with --processes or over machines."
        )
    allowed = int(cast(str, client.config_get("maxclients")["maxclients"]))
    there = int(client.info("clients")["connected_clients"])
    if connections + there > allowed:
        return (
            f"The server takes {allowed} clients (maxclients), {there} are there, and {connections} are to come.\n"
            f"What to do: --server-arg 'maxclients {connections + there + 100}', or CONFIG SET maxclients on your own."
        )
    return None


def raise_descriptor_limit() -> None:
    """Raise the limit of file descriptors of this process as far as possible."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
