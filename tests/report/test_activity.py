"""The counts of the summary: they add up, survive JSON, and are printed in plain lines."""

from __future__ import annotations

import json
from collections import Counter

from pytest_redisq.report.activity import SHOWN_SLOWEST, Activity

RUNS = Activity(
    runs=2, messages=1_500, verdicts=Counter({"pass": 1, "not judged": 1}), slowest=[(0.5, "run", "t.py::a")]
)
EXPLORED = Activity(
    explorations=1,
    schedules=500,
    explored=Counter({"fail": 1}),
    places=60,
    struck=41,
    slowest=[(2.25, "exploration", "t.py::b")],
)


def test_counts_add_up_and_travel_as_json() -> None:
    total = Activity()
    for each in (RUNS, EXPLORED):
        total.add(Activity.from_json(json.loads(json.dumps(each.as_json()))))
    assert list(total.lines()) == [
        "2 runs of 1,500 messages: 1 pass, 1 not judged",
        "1 exploration of 500 schedules: 1 fail, faults struck at 41 of 60 places",
        "2.25 s exploration in t.py::b",
        "0.50 s run in t.py::a",
    ]
    assert total.line() == (
        "2 runs of 1,500 messages: 1 pass, 1 not judged; "
        "1 exploration of 500 schedules: 1 fail, faults struck at 41 of 60 places"
    )


def test_only_the_slowest_are_kept() -> None:
    total = Activity()
    for seconds in range(9):
        total.add(Activity(runs=1, slowest=[(float(seconds), "run", "t")]))
    assert [seconds for seconds, *_ in total.slowest] == [8.0, 7.0, 6.0][:SHOWN_SLOWEST]


def test_nothing_done_is_nothing_to_tell() -> None:
    assert not Activity()
    assert not list(Activity().lines())
