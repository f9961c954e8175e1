"""The interface of both engines, for the code that starts and stops them."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from pytest_redisq.load.engine.failure_tracker import FailureTracker
from pytest_redisq.load.engine.samples import SampleBatch


class LoadEngine(Protocol):
    """Drives the clients of this process.

    `batches` collects the figures; take them from the left. `failures` knows whether all operations fail.
    """

    batches: deque[SampleBatch]
    failures: FailureTracker

    @property
    def connected(self) -> int: ...

    @property
    def connect_seconds(self) -> float:
        """Seconds until all clients were connected; 0 while some are not."""

    def served(self) -> list[int]:
        """How many messages each BLPOP consumer received."""

    def producing(self) -> int:
        """The number of producing clients that have not ended."""

    def consuming(self) -> int:
        """The number of other clients that have not ended."""

    def stop_producing(self) -> None: ...

    def stop_consuming(self) -> None: ...

    def kill_consumers(self) -> None:
        """Break the connection of each consumer. A new one replaces it."""

    def waiting(self) -> list[int]:
        """The ids (CLIENT ID) of the clients that must end and may be blocked in the server."""
