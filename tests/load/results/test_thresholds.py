"""Thresholds of a run, and regressions compared with an earlier run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_redisq.errors import RedisqError
from pytest_redisq.load.results.baseline import dumped, opened, recall, worse
from pytest_redisq.load.results.thresholds import Threshold

FIGURES = {"p99": 4_000.0, "BLPOP.p99": 900.0, "lost": 0.0, "rate": 20_000.0}


@pytest.mark.parametrize("text", ["p99>5ms", "BLPOP.p99>1ms", "lost>0", "rate<10000", "p99 >= 4001us", "p99<=3ms"])
def test_a_threshold_that_is_kept_says_nothing(text: str) -> None:
    assert Threshold.parse(text).missed(FIGURES) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p99>3ms", "p99>3ms: p99 is 4.00 ms"),
        ("BLPOP.p99>=900us", "BLPOP.p99>=900us: BLPOP.p99 is 900 µs"),
        ("lost<1", "lost<1: lost is 0"),
        ("rate<=20000", "rate<=20000: rate is 20,000"),
    ],
)
def test_a_threshold_that_is_missed_says_by_how_much(text: str, words: str) -> None:
    assert Threshold.parse(text).missed(FIGURES) == words


@pytest.mark.parametrize(
    ("text", "lesson"),
    [
        ("p99", "is no threshold; write it as 'p99>5ms'"),
        ("p99>5", "a latency needs a unit: us, ms or s"),
        ("lost>5ms", "lost is a number and takes no unit"),
    ],
)
def test_what_is_no_threshold_teaches(text: str, lesson: str) -> None:
    with pytest.raises(ValueError, match=lesson):
        Threshold.parse(text)


@pytest.mark.parametrize("text", ["p99.99>5ms", "RPUSH.p99.9>5ms", "mean>1ms", "server.memory>5", "poll-skip>0"])
def test_each_figure_that_a_run_may_have_is_known_before_it(text: str) -> None:
    Threshold.parse(text).check()


@pytest.mark.parametrize(
    ("text", "lesson"), [("losst>0", "Did you mean 'lost'"), ("server.memry>5", "'server.memory'")]
)
def test_a_misspelt_figure_is_told_before_the_run(text: str, lesson: str) -> None:
    with pytest.raises(ValueError, match=lesson):
        Threshold.parse(text).check()


def test_a_figure_that_is_not_there_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no figure is called 'losst'\. Did you mean 'lost'"):
        Threshold.parse("losst>0").missed(FIGURES)


KEPT = [{"p99": 4_000.0, "rate": 20_000.0, "lost": 0.0}, {"p99": 5_000.0, "rate": 18_000.0, "lost": 0.0}]


def test_what_lies_in_the_band_of_the_runs_kept_is_noise() -> None:
    assert list(worse(KEPT, {"p99": 5_400.0, "rate": 16_300.0, "lost": 0.0, "unheard": 7.0})) == []


def test_what_is_better_is_no_regression() -> None:
    assert list(worse(KEPT, {"p99": 10.0, "rate": 90_000.0, "lost": 0.0})) == []


def test_what_is_worse_is_told_with_the_band() -> None:
    told = list(worse(KEPT, {"p99": 6_000.0, "rate": 10_000.0, "lost": 1.0}))
    assert told == [
        "p99 is 6.00 ms; it was 3.60 ms … 5.50 ms",
        "rate is 10,000; it was 16,200 … 22,000",
        "lost is 1; it was 0",
    ]


def test_a_baseline_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    with opened("main", tmp_path) as file:
        file.write(dumped("drain", KEPT))
    assert recall("main", "drain", tmp_path) == KEPT
    with pytest.raises(RedisqError, match="Did you mean 'main'"):
        recall("mian", "drain", tmp_path)
    with pytest.raises(RedisqError, match="is no name for a baseline"):
        opened("../main", tmp_path)
