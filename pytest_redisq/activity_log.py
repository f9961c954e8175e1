"""Collects what tests do with redisq, for the summary at the end of pytest's run and for the warning about a run that
was never judged.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pytest_redisq.errors import RedisqUnjudgedWarning
from pytest_redisq.explore import Exploration
from pytest_redisq.load.locust_process import LoadReport
from pytest_redisq.model import Kind
from pytest_redisq.report.activity import Activity
from pytest_redisq.runner import Run


class Place(NamedTuple):
    """A line of the test's code."""

    file: str
    line: int

    @classmethod
    def of_caller(cls, depth: int) -> Place:
        """The line that called the function `depth` frames up."""
        frame = sys._getframe(depth + 1)
        return cls(frame.f_code.co_filename, frame.f_lineno)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """A run, without its history, which may be large.

    * `place`: the line that made it.
    * `what`: "run" or "load run".
    * `messages`: how many it sent.
    * `outcomes`: returns the outcomes of its verdicts so far.
    * `judged`: returns whether the test looked at a verdict, or took the history to judge it itself.
    """

    place: Place
    what: str
    messages: int
    outcomes: Callable[[], list[str]]
    judged: Callable[[], bool]


class ActivityLog:
    """The activity since `take` was last called, and the runs of one fixture."""

    def __init__(self) -> None:
        self._activity = Activity()
        self._runs: list[LoggedRun] = []

    def ran(self, run: Run, place: Place) -> None:
        """Note a run of producers and consumers. Its verdicts are read at the end of the fixture."""
        enqueues = (group for group in run.record.groups if group.key.kind is Kind.ENQUEUE)
        messages = sum(len(group.producers) for group in enqueues)
        judgements = run.judgements
        self._runs.append(
            LoggedRun(
                place=place,
                what="run",
                messages=messages,
                outcomes=lambda: [verdict.outcome for verdict in judgements.verdicts],
                judged=lambda: bool(judgements.verdicts or judgements.history_taken),
            )
        )
        self._time((run.ended_ns - run.started_ns) / 1e9, "run")

    def loaded(self, report: LoadReport, place: Place) -> None:
        """Note a load run, which has its verdict."""
        outcome = str(report.told["verdict"]["outcome"])
        self._runs.append(
            LoggedRun(
                place=place,
                what="load run",
                messages=int(report.figures.get("attempted", 0)),
                outcomes=lambda: [outcome],
                judged=lambda: bool(report.asked),
            )
        )
        self._time(float(report.told.get("seconds", 0.0)), "load run")

    def explored(self, exploration: Exploration) -> None:
        """Note an exploration."""
        self._activity.explorations += 1
        self._activity.schedules += exploration.schedules
        self._activity.explored[exploration.outcome] += 1
        self._activity.places += len(exploration.evidence.places)
        self._activity.struck += len(exploration.evidence.struck)
        self._time(exploration.seconds, "exploration")

    def close_runs(self) -> list[LoggedRun]:
        """Count the runs that were noted, with their verdicts. Returns those that were never judged."""
        runs, self._runs = self._runs, []
        for run in runs:
            self._activity.runs += 1
            self._activity.messages += run.messages
            self._activity.verdicts.update(run.outcomes() or ["not judged"])
        return [run for run in runs if not run.judged()]

    def take(self) -> Activity:
        """What was noted since the last call; nothing before a run has ended with its fixture, or an exploration."""
        if not self._activity:
            return Activity()
        taken, self._activity = self._activity, Activity()
        return taken

    def _time(self, seconds: float, what: str) -> None:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        self._activity.add(Activity(slowest=[(round(seconds, 3), what, test)]))


def warn_unjudged(runs: list[LoggedRun]) -> None:
    """Warn about each of `runs`, at the line that made it."""
    for run in runs:
        warnings.warn_explicit(unjudged(run), RedisqUnjudgedWarning, run.place.file, run.place.line)


def unjudged(run: LoggedRun) -> str:
    """What to say of a run that was never judged."""
    return (
        f"a {run.what} of {run.messages:,} messages was never judged, so the test proves nothing about it. What to do: "
        + (
            'call .verify("at-least-once") on what redisq.run() returns, or another contract.'
            if run.what == "run"
            else "call .verify() on what redisq.load() returns."
        )
    )
