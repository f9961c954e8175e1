"""What both engines are to those who start and end them."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from pytest_redisq.load.engine.samples import SampleBatch


class LoadEngine(Protocol):
    """Actors at work in this process."""

    batches: deque[SampleBatch]

    @property
    def connected(self) -> int: ...

    @property
    def connect_seconds(self) -> float:
        """How long it took until all were connected; 0 while they are not."""

    def served(self) -> list[int]:
        """How many messages each consumer has been given, where they share them and somebody counts."""

    def producing(self) -> int:
        """How many producing clients have not ended."""

    def consuming(self) -> int:
        """How many other clients have not ended."""

    def stop_producing(self) -> None: ...

    def stop_consuming(self) -> None: ...

    def kill_consumers(self) -> None:
        """Cut the connection under each consumer; another takes its place."""

    def waiting(self) -> list[int]:
        """The client ids of those who are to end and may be waiting in the server."""
