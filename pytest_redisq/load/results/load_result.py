"""The result of a load run: the verdict and all figures, as values, as JSON, and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_redisq.check import AnomalyKind, ErrorCount, Verdict
from pytest_redisq.load.queue_errors import QueueErrorCount, data
from pytest_redisq.load.results.exit_status import EXIT_BROKEN, EXIT_MISSED, EXIT_PASS, EXIT_UNKNOWN
from pytest_redisq.load.results.histogram import Timings
from pytest_redisq.load.results.thresholds import Threshold, shown
from pytest_redisq.report import explain, verdict_data


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """The result of one run.

    `seconds`: from the start until the producers were stopped. `stop_seconds`: from then until all consumers had ended.
    `clients`: the clients connected to the server before and after; None if it did not answer.
    """

    scenario: str
    engine: str
    server: str
    verdict: Verdict
    timings: Mapping[str, Timings]
    seconds: float
    stop_seconds: float
    clients: tuple[int, int | None]
    #: Figures measured while the run went on, by name. Memory and buffers are bytes, `connect` is seconds.
    seen: Mapping[str, float] = field(default_factory=dict)
    #: False for a run of the locustfile's own users alone: then thresholds are all that it can be judged by.
    has_contract: bool = True
    #: The number of thresholds asked for.
    thresholds: int = 0
    #: Whether the run was ended before its time.
    interrupted: bool = False
    #: What the user's own queue raised, apart from errors of Redis and the network.
    raised: tuple[QueueErrorCount, ...] = ()
    notes: tuple[str, ...] = ()
    missed: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """As the verdict has it; where that is a pass, a missed threshold makes it 2. (Of users alone: thresholds.)"""
        if not self.has_contract and self.thresholds and not self.interrupted:
            return EXIT_MISSED if self.missed else EXIT_PASS
        code = {"pass": EXIT_PASS, "fail": EXIT_BROKEN, "unknown": EXIT_UNKNOWN}[self.verdict.outcome]
        return EXIT_MISSED if code == EXIT_PASS and self.missed else code

    def figures(self) -> dict[str, float]:
        """By name: the latencies of all requests (`p99`), of each kind (`BLPOP.p99`), rates, and anomalies (`lost`).

        Latencies are microseconds. Where a rate was given they are measured from the intended start, and `service.`
        has those measured from the moment of sending; `paced` is the rate that was kept to.
        """
        figures: dict[str, float] = {}
        merged = Timings.empty()
        for name, timings in self.timings.items():
            merged.merge(timings)
            figures |= _latencies(f"{name.partition(' ')[0]}.", timings)
        figures |= _latencies("", merged)
        if merged.response.count:
            figures |= {f"service.{name}": float(v) for name, v in merged.service.figures().as_json().items()}
            figures["paced"] = round(merged.response.count / max(self.seconds, 1e-9), 1)
        totals = self.verdict.totals
        figures["requests"] = float(merged.service.count)
        received = totals.delivered - totals.repeated - self.verdict.counts[AnomalyKind.CORRUPTED]
        figures["rate"] = round((received or merged.service.count) / max(self.seconds, 1e-9), 1)
        figures["errors"] = float(merged.errors.total())
        figures["stop"] = self.stop_seconds
        figures |= {name: float(getattr(totals, name)) for name in ("attempted", "remaining", "pending")}
        figures["received"] = float(received)
        figures |= {str(kind): float(times) for kind, times in self.verdict.counts.items()}
        figures |= self.seen
        return figures

    def judged_by(self, thresholds: tuple[Threshold, ...]) -> tuple[str, ...]:
        """What thresholds were missed, in words; one that names no figure counts as missed."""
        figures, missed = self.figures(), []
        for threshold in thresholds:
            try:
                missed.append(threshold.missed(figures))
            except ValueError as error:
                missed.append(str(error))
        return tuple(filter(None, missed))

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "engine": self.engine,
            "server": self.server,
            "exit_code": self.exit_code,
            "verdict": verdict_data(self.verdict),
            "interrupted": self.interrupted,
            "raised": data(self.raised),
            "missed": list(self.missed),
            "seconds": round(self.seconds, 3),
            "stop_seconds": round(self.stop_seconds, 3),
            "clients": {"before": self.clients[0], "after": self.clients[1]},
            "figures": self.figures(),
            "errors": {name: dict(timings.errors) for name, timings in self.timings.items() if timings.errors},
            "notes": list(self.notes),
        }

    def lines(self) -> Iterator[str]:
        """The result as a person reads it."""
        yield f"{self.scenario}, engine {self.engine}, {self.seconds:.1f} s, on {self.server}"
        for name, timings in self.timings.items():
            yield from _timing_lines(name, timings, self.seconds)
        if self.has_contract:
            yield from explain(self.verdict).splitlines()
        else:
            yield f"No verdict: {self.verdict.reasons[0]}. --fail-if judges such a run by its figures."
            yield from ["The run was interrupted."] * self.interrupted
            yield from (f"  {each.times:,} × {each.operation}: {each.text}" for each in self.verdict.errors)
        after = "?" if self.clients[1] is None else self.clients[1]
        yield f"consumers stopped within {self.stop_seconds:.2f} s; clients {self.clients[0]} → {after}"
        yield from _seen_lines(self.seen)
        yield from (f"note: {note}" for note in self.notes)
        yield from (f"MISSED {words}" for words in self.missed)


def not_a_pass(verdict: Verdict, why: str) -> Verdict:
    """Returns the verdict with the reason `why`: a pass becomes *unknown*; a broken contract stays broken."""
    outcome = "unknown" if verdict.outcome == "pass" else verdict.outcome
    return replace(verdict, outcome=outcome, reasons=(why, *verdict.reasons))


def error_counts(timings: Mapping[str, Timings]) -> list[ErrorCount]:
    """The errors that requests ended with, by the name of the request; the most frequent first."""
    counts = [ErrorCount(name, text, times) for name, each in timings.items() for text, times in each.errors.items()]
    return sorted(counts, key=lambda count: -count.times)


def _seen_lines(seen: Mapping[str, float]) -> Iterator[str]:
    words = [f"{name} {shown(name, value)}" for name, value in seen.items()]
    if words:
        yield f"at most: {', '.join(words)}"


def _latencies(prefix: str, timings: Timings) -> dict[str, float]:
    histogram = timings.response if timings.response.count else timings.service
    return {f"{prefix}{name}": float(value) for name, value in histogram.figures().as_json().items() if name != "count"}


def _timing_lines(name: str, timings: Timings, seconds: float) -> Iterator[str]:
    figures = timings.service.figures()
    errors = f", {timings.errors.total():,} errors" if timings.errors else ""
    yield f"  {name}: {figures.count:,} requests, {figures.count / max(seconds, 1e-9):,.0f}/s{errors}"
    for way, histogram in (("service", timings.service), ("response", timings.response)):
        if histogram.count:
            told = histogram.figures().as_json()
            words = ", ".join(f"{key} {shown(key, told[key])}" for key in ("p50", "p90", "p99", "p999", "max"))
            yield f"    {way}: {words}"
