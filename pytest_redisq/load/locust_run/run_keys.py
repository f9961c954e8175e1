"""Deletes the keys of a load run when it ends; on the user's server even if the run is killed."""

from __future__ import annotations

import sys

import redis

from pytest_redisq.errors import ServerError
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.locust_run.cluster_slots import registry_at
from pytest_redisq.servers.key_lease import KeyLease


class RunKeys:
    """The lease on the keys of a run. The master holds it, for one run after the other."""

    def __init__(self) -> None:
        self._lease: KeyLease | None = None

    def take(self, client: redis.Redis, assignment: Assignment) -> None:
        """Take the lease before the first key. Raises ServerError if the server forbids what deletion needs."""
        if not assignment.own_server:
            lease = KeyLease(assignment.url, assignment.prefix, registry=registry_at(client))
            _tell(lease.take())
            self._lease = lease

    def clear(self, client: redis.Redis, assignment: Assignment) -> None:
        """Delete the keys of the run, and no others."""
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                _tell(lease.close())
            except ServerError as error:  # it says nothing about the queue
                _tell([str(error)])
            return
        for key in client.scan_iter(match=assignment.key("*"), count=1000):
            client.unlink(key)

    def leave(self) -> None:
        """Leave the keys of a run that could not be judged to the lease's cleaner."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.leave()


def _tell(texts: list[str]) -> None:
    for text in texts:
        print(f"redisq: {text}", file=sys.stderr, flush=True)
