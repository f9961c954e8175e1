"""The keys of a load run, which go with it: on the user's own server even where the run is killed."""

from __future__ import annotations

import sys

import redis

from pytest_redisq.errors import ServerError
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.locust_run.cluster_slots import registry_at
from pytest_redisq.servers.key_lease import KeyLease


class RunKeys:
    """Held by the process that leads the run, for one run after the other."""

    def __init__(self) -> None:
        self._lease: KeyLease | None = None

    def take(self, client: redis.Redis, assignment: Assignment) -> None:
        """Before the first key. Raises ServerError if the server forbids what deleting them takes."""
        if not assignment.own_server:
            lease = KeyLease(assignment.url, assignment.prefix, registry=registry_at(client))
            _tell(lease.take())
            self._lease = lease

    def clear(self, client: redis.Redis, assignment: Assignment) -> None:
        """Delete them, and no others."""
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                _tell(lease.close())
            except ServerError as error:  # of the queue it says nothing
                _tell([str(error)])
            return
        for key in client.scan_iter(match=assignment.key("*"), count=1000):
            client.unlink(key)

    def leave(self) -> None:
        """Leave to the lease's cleaner what a run that could not be judged has left."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.leave()


def _tell(texts: list[str]) -> None:
    for text in texts:
        print(f"redisq: {text}", file=sys.stderr, flush=True)
