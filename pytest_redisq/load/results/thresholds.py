"""Thresholds that fail a run: `p99>5ms`, `BLPOP.p99>2ms`, `lost>0`, `rate<10000`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from pytest_redisq.check import AnomalyKind
from pytest_redisq.spelling import suggest

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
#: Microseconds, as which latencies are kept.
_UNITS = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}
_FORM = re.compile(r"\s*([\w.-]+)\s*(>=|<=|>|<)\s*(\d+(?:\.\d+)?)\s*(us|µs|ms|s)?\s*")
#: Bytes; and what is seldom a whole number: an index, seconds.
SIZES = ("memory", "buffers", "output_buffer")
FRACTIONS = ("fairness", "connect", "stop")
LATENCIES = ("mean", "p50", "p90", "p95", "p99", "p999", "p9999", "max")
#: The figures that a run may have, but for latencies, anomalies, and those of a scenario of the user's own.
FIGURES = (
    "paced", "requests", "requests_per_cpu_second", "rate", "errors", "stop", "connect", "fairness",
    "attempted", "received", "remaining", "pending", "depth", "lag",
    "client.memory", "server.memory", "server.buffers", "server.output_buffer",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The run misses it if `figure` compares so with `limit` (microseconds, where it is a latency)."""

    text: str
    figure: str
    compare: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the threshold that `text` describes. Raises ValueError with the right form.

        >>> Threshold.parse("p99>5ms").limit
        5000.0
        """
        form = _FORM.fullmatch(text)
        if form is None:
            raise ValueError(
                f"{text!r} is no threshold; write it as 'p99>5ms', 'BLPOP.p99>2ms', 'lost>0' or 'rate<10000'"
            )
        name, compare, number, unit = form.groups()
        figure = re.sub(r"\bp99\.(9+)$", r"p99\1", name)  # p99.9 is p999
        latency = figure.rpartition(".")[2] in LATENCIES
        if latency != bool(unit):
            wrong = "a latency needs a unit: us, ms or s" if latency else f"{figure} is a number and takes no unit"
            raise ValueError(f"{text!r}: {wrong}")
        return cls(text=text, figure=figure, compare=compare, limit=float(number) * _UNITS.get(unit or "us", 1.0))

    def check(self) -> None:
        """Raise ValueError if no run has this figure. The command of a figure such as `BLPOP.p99` is not checked."""
        known = {*LATENCIES, *FIGURES, *map(str, AnomalyKind)}
        if self.figure not in known and self.figure.rpartition(".")[2] not in LATENCIES:
            raise ValueError(self._no_figure(sorted(known)))

    def _no_figure(self, known: Iterable[str]) -> str:
        hint = suggest(self.figure, known)
        return f"{self.text!r}: no figure is called {self.figure!r}.{hint} There are {', '.join(known)}."

    def missed(self, figures: Mapping[str, float]) -> str | None:
        """What happened instead, in words; None if the run keeps to it. ValueError if there is no such figure."""
        if self.figure not in figures:
            raise ValueError(self._no_figure(figures))
        value = figures[self.figure]
        if not _COMPARE[self.compare](value, self.limit):
            return None
        return f"{self.text}: {self.figure} is {shown(self.figure, value)}"


def shown(figure: str, value: float) -> str:
    """A figure's value as a person reads it.

    >>> shown("p99", 1234.0), shown("lost", 3.0), shown("client.memory", 2.5e6), shown("connect", 0.25)
    ('1.23 ms', '3', '2.50 MB', '0.250')
    """
    last = figure.rpartition(".")[2]
    if last in SIZES:
        return f"{value / 1e6:,.2f} MB"
    if last in FRACTIONS:
        return f"{value:.3f}"
    if last not in LATENCIES:
        return f"{value:,.0f}"
    return f"{value:.0f} µs" if value < 1000 else f"{value / 1e3:,.2f} ms" if value < 1e6 else f"{value / 1e6:,.2f} s"
