"""Adds batches of samples to Locust's own statistics, so that its UI, CSV and HTML show them."""

from __future__ import annotations

import time
from collections.abc import Container

import locust.stats
from locust.stats import RequestStats, StatsEntry, StatsError

from pytest_redisq.load.engine.samples import SampleBatch
from pytest_redisq.load.results.histogram import Timings


def bucket_microseconds(milliseconds: float) -> float:
    """Round to three significant digits and to a microsecond. Locust's own function rounds to milliseconds."""
    if milliseconds < 1:
        return round(milliseconds, 3)
    if milliseconds < 10:
        return round(milliseconds, 2)
    if milliseconds < 100:
        return round(milliseconds, 1)
    digits = len(str(int(milliseconds)))
    return round(milliseconds, 3 - digits)


def use_microseconds() -> None:
    """From now on Locust's percentiles in this process are exact to a microsecond."""
    locust.stats.bucket_response_time = bucket_microseconds  # type: ignore[assignment]


def add_batch(stats: RequestStats, batch: SampleBatch) -> None:
    """Add a batch, as if each of its requests had been an event of Locust."""
    method, _, name = batch.name.partition(" ")
    entry = _entry(stats, method, name, batch)
    stats.entries[(name, method)].extend(entry)
    stats.total.extend(entry)
    for error, times in batch.errors.items():
        key = StatsError.create_key(method, name, error)
        known = stats.errors.setdefault(key, StatsError(method, name, error))
        known.occurrences += times - 1
        known.occurred()


def timings_of(stats: RequestStats, *, but_for: Container[str] = ()) -> dict[str, Timings]:
    """Returns Locust's own figures by the name of the request, except those named in `but_for`.

    They are of users of the locustfile's own. Latencies have three significant digits.
    """
    found: dict[str, Timings] = {}
    for (name, method), entry in sorted(stats.entries.items()):
        label = f"{method} {name}"
        if label not in but_for:
            timings = found[label] = Timings.empty()
            timings.service.add({round(value * 1000): times for value, times in entry.response_times.items()})
            timings.bytes = entry.total_content_length
    for failure in stats.errors.values():
        if (label := f"{failure.method} {failure.name}") in found:
            found[label].errors[str(failure.error)] += failure.occurrences
    return found


def _entry(stats: RequestStats, method: str, name: str, batch: SampleBatch) -> StatsEntry:
    entry = StatsEntry(stats, name, method)
    counts, now = batch.service, time.time()
    requests, failures = sum(counts.values()), sum(batch.errors.values())
    entry.num_requests = requests
    entry.num_failures = failures
    entry.total_content_length = batch.bytes
    entry.last_request_timestamp = now
    entry.num_reqs_per_sec[int(now)] = requests
    if failures:
        entry.num_fail_per_sec[int(now)] = failures
    if counts:
        entry.total_response_time = sum(value * times for value, times in counts.items()) / 1000  # type: ignore[assignment]
        entry.min_response_time = min(counts) / 1000  # type: ignore[assignment]
        entry.max_response_time = max(counts) / 1000  # type: ignore[assignment]
    for value, times in counts.items():
        entry.response_times[bucket_microseconds(value / 1000)] += times  # type: ignore[index]
    return entry
