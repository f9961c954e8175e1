"""Latencies in microseconds, against sorted lists; and how they reach Locust's statistics."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pytest_redisq.load.engine.samples import Samples
from pytest_redisq.load.results.histogram import Histogram, Timings, microseconds

LATENCIES = st.lists(st.integers(1, 10_000_000), min_size=1, max_size=200)


@given(LATENCIES, st.sampled_from([50, 90, 99, 99.9, 100]))
def test_percentiles_are_exact_to_three_digits(values: list[int], percent: float) -> None:
    histogram = Histogram()
    histogram.add(Counter(values))
    exact = sorted(values)[max(int(len(values) * percent / 100 + 0.5), 1) - 1]  # HDR's: the nearest rank
    assert abs(histogram.percentile(percent) - exact) <= max(exact / 1000, 1)


@given(LATENCIES, LATENCIES)
def test_histograms_of_two_processes_add_up(one: list[int], two: list[int]) -> None:
    whole, first, second = Histogram(), Histogram(), Histogram()
    whole.add(Counter(one + two))
    first.add(Counter(one))
    second.add(Counter(two))
    first.merge(Histogram.load(second.dump()))
    assert first.figures() == whole.figures()
    assert first.figures().mean == round(sum(one + two) / len(one + two))


def test_what_is_out_of_range_counts_as_its_end() -> None:
    assert microseconds([-5, 999, 1_000, 2_500]) == Counter({0: 2, 1: 1, 2: 1})
    histogram = Histogram()
    histogram.add({0: 1, 10**12: 1})
    assert histogram.percentile(1) == 1
    assert histogram.count == 2


def test_a_gauge_hands_over_each_figure_once_and_weighs_pipelines() -> None:
    samples = Samples("RPUSH jobs", weight=100)
    assert samples.collect() is None
    samples.service.append(5_000)
    samples.errors["gone"] += 1
    batch = samples.collect()
    assert batch is not None
    timings = Timings.empty()
    batch.add_to(timings)
    assert (timings.service.count, timings.service.percentile(50), timings.errors) == (100, 5, Counter({"gone": 1}))
    assert samples.collect() is None


_IN_LOCUST = """
from collections import Counter
from locust.stats import RequestStats
from pytest_redisq.load.locust_run.locust_stats import add_batch, use_microseconds
from pytest_redisq.load.engine.samples import SampleBatch

use_microseconds()
stats = RequestStats()
for value in (100, 270, 400):
    stats.log_request("GET", "event", value / 1000, 10)
batch = SampleBatch(name="GET batch", service=Counter({100: 1, 270: 1, 400: 1}), response=Counter(), bytes=30,
              errors=Counter(gone=2))
add_batch(stats, batch)
for name in ("event", "batch"):
    entry = stats.entries[(name, "GET")]
    percentiles = [entry.get_response_time_percentile(part) for part in (0.5, 1.0)]
    print(entry.num_requests, *percentiles, entry.max_response_time, entry.total_content_length)
print(stats.total.num_requests, stats.total.num_failures, [error.occurrences for error in stats.errors.values()])
"""


def test_locust_shows_microseconds_and_batches_as_if_each_request_had_been_an_event() -> None:
    told = subprocess.run([sys.executable, "-c", _IN_LOCUST], capture_output=True, text=True, check=True).stdout
    event, batch, total = told.splitlines()
    assert event == batch == "3 0.27 0.4 0.4 30"
    assert total == "6 2 [2]"
