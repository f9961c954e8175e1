"""Writes the logs of consumers from samples: how often each has received something so far.

An engine takes samples with its figures, so that nothing is written for each message. What happened between two samples
counts as happening at the first: a message that came just before a fault never counts as one that came after it.
"""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable

from pytest_redisq.load.consumer_log import ConsumerLog, ConsumerLogs


@runtime_checkable
class CountingClient(Protocol):
    """A client of a consumer. `served`: the number of replies with messages that it received."""

    served: int


class ConsumerSamples:
    """The samples of the consumers of one process, which are written to `logs`."""

    def __init__(self, logs: ConsumerLogs) -> None:
        self._logs = logs
        self._consumers: list[tuple[CountingClient, ConsumerLog]] = []
        self._served: list[int] = []
        self._put = self._taken = 0
        self._at_ns = 0

    def watch(self, client: CountingClient, log: ConsumerLog) -> None:
        """Sample one more consumer, which asks from now on."""
        log.asks(time.time_ns())
        log.calls = 0  # they are not counted
        self._consumers.append((client, log))
        self._served.append(client.served)

    def sample(self, *, put: int, taken: int) -> None:
        """Take a sample. `put`, `taken`: how many messages were put and received in this process so far."""
        if not self._consumers:
            return
        before_ns, self._at_ns = self._at_ns or time.time_ns(), time.time_ns()
        for at, (client, log) in enumerate(self._consumers):
            if client.served != self._served[at]:
                self._served[at] = client.served
                log.took(max(before_ns, log.since_ns))
                log.since_ns = log.took_ns
                log.ended_ns = 0
        self._logs.count_put(before_ns, put - self._put)
        self._logs.count_taken(before_ns, taken - self._taken)
        self._put, self._taken = put, taken
