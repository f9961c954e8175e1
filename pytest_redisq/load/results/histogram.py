"""Latencies, in microseconds, as HDR histograms: small, exact to three digits, and added up across processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

#: The range of a histogram: 1 µs to one hour, with three significant digits.
_LOWEST_US, _HIGHEST_US, _DIGITS = 1, 3_600_000_000, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """What a histogram says, in microseconds."""

    count: int
    mean: int
    p50: int
    p90: int
    p95: int
    p99: int
    p999: int
    p9999: int
    max: int

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def microseconds(nanoseconds: Iterable[int]) -> Counter[int]:
    """How often each whole number of microseconds occurs; what a clock of another process made negative counts as 0."""
    return Counter([each // 1000 if each > 0 else 0 for each in nanoseconds])


class Histogram:
    """Adds up latencies, given as {microseconds: times}."""

    def __init__(self) -> None:
        self._hdr: Any = HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)
        self._total_us = 0

    def add(self, counts: Mapping[int, int]) -> None:
        for value, times in counts.items():
            self._hdr.record_value(min(max(value, _LOWEST_US), _HIGHEST_US), times)
            self._total_us += value * times

    def merge(self, other: Histogram) -> None:
        self._hdr.add(other._hdr)
        self._total_us += other._total_us

    def percentile(self, percent: float) -> int:
        """The latency within which `percent` (0 to 100) of all were, in microseconds; 0 where there are none."""
        return int(self._hdr.get_value_at_percentile(percent)) if self.count else 0

    @property
    def count(self) -> int:
        return int(self._hdr.get_total_count())

    def figures(self) -> Percentiles:
        return Percentiles(
            count=self.count,
            mean=round(self._total_us / max(self.count, 1)),
            p50=self.percentile(50),
            p90=self.percentile(90),
            p95=self.percentile(95),
            p99=self.percentile(99),
            p999=self.percentile(99.9),
            p9999=self.percentile(99.99),
            max=self.percentile(100),
        )

    def dump(self) -> list[Any]:
        """In the interchange format of HdrHistogram, version 2, compressed; and the sum of all latencies."""
        return [self._hdr.encode(), self._total_us]

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> Self:
        encoded, total_us = dumped
        histogram = cls()
        histogram._hdr.decode_and_add(encoded)
        histogram._total_us = total_us
        return histogram


@dataclass(slots=True, kw_only=True)
class Timings:
    """The latencies of one kind of request.

    `service` runs from the moment a request was sent (of a blocking pop: from the push of what it got). `response` runs
    from the moment when it should have been sent; it is empty where no rate was given.
    """

    service: Histogram
    response: Histogram
    bytes: int = 0
    errors: Counter[str]

    @classmethod
    def empty(cls) -> Self:
        return cls(service=Histogram(), response=Histogram(), errors=Counter())

    def merge(self, other: Timings) -> None:
        self.service.merge(other.service)
        self.response.merge(other.response)
        self.bytes += other.bytes
        self.errors.update(other.errors)

    def dump(self) -> dict[str, Any]:
        return {
            "service": self.service.dump(),
            "response": self.response.dump(),
            "bytes": self.bytes,
            "errors": dict(self.errors),
        }

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Self:
        return cls(
            service=Histogram.load(dumped["service"]),
            response=Histogram.load(dumped["response"]),
            bytes=dumped["bytes"],
            errors=Counter(dumped["errors"]),
        )
