"""Latencies and errors: an engine appends samples, and returns them in batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pytest_redisq.load.results.histogram import Timings, microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBatch:
    """The samples of one kind of request since the last batch. Latencies are {microseconds: count}."""

    name: str
    service: Counter[int]
    response: Counter[int]
    bytes: int
    errors: Counter[str]

    def add_to(self, timings: Timings) -> None:
        timings.service.add(self.service)
        timings.response.add(self.response)
        timings.bytes += self.bytes
        timings.errors.update(self.errors)


class Samples:
    """Collects the samples of one kind of request.

    Each latency (nanoseconds) counts for `weight` commands: those of a pipeline have the latency of the pipeline.
    """

    __slots__ = ("bytes", "errors", "name", "refused", "response", "service", "weight")

    def __init__(self, name: str, weight: int = 1) -> None:
        self.name: str = name
        self.weight: int = weight
        self.service: list[int] = []
        self.response: list[int] = []
        self.bytes: int = 0
        self.errors: Counter[str] = Counter()
        #: How many requests in `service` were refused altogether.
        self.refused: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether a request has succeeded since the last collection."""
        return len(self.service) > self.refused

    def collect(self) -> SampleBatch | None:
        """Returns the samples since the last call; None if there are none."""
        if not (self.service or self.errors):
            return None
        batch = SampleBatch(
            name=self.name,
            service=self._weighed(self.service),
            response=self._weighed(self.response),
            bytes=self.bytes,
            errors=self.errors,
        )
        self.service, self.response, self.bytes, self.errors = [], [], 0, Counter()
        self.refused = 0
        return batch

    def _weighed(self, nanoseconds: list[int]) -> Counter[int]:
        counts = microseconds(nanoseconds)
        if self.weight == 1:
            return counts
        return Counter({value: times * self.weight for value, times in counts.items()})
