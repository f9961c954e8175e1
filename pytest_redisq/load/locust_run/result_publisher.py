"""Publishes the result of a run: on standard error, in the report's file, and as Locust's exit status."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment
from locust.stats import CSV_STATS_INTERVAL_SEC

from pytest_redisq.load.locust_process import begun_file, reserve_file
from pytest_redisq.load.locust_run import locust_writers
from pytest_redisq.load.locust_run.load_options import LoadOptions
from pytest_redisq.load.locust_run.locust_writers import write_html
from pytest_redisq.load.results.exit_status import EXIT_NOT_RUN, EXIT_PASS
from pytest_redisq.load.results.load_result import LoadResult


class ResultPublisher:
    """Publishes the results of the runs of `environment`, as `options` ask for. Takes over Locust's HTML report."""

    def __init__(self, environment: Environment, options: LoadOptions) -> None:
        self._environment = environment
        self._options = options
        self._result: LoadResult | None = None
        locust_options: Any = environment.parsed_options
        self._html_file: str | None = getattr(locust_options, "html_file", None)
        locust_options.html_file = None
        events: Any = environment.events
        if getattr(locust_options, "csv_prefix", None):
            events.quit.add_listener(_let_be_written)
        events.quit.add_listener(self._finish_files)

    def publish(self, result: LoadResult) -> None:
        """Judge the result by the thresholds, print and write it, and set the exit status."""
        thresholds = self._options.thresholds
        judged = replace(result, missed=result.judged_by(thresholds), thresholds=len(thresholds))
        self._environment.process_exit_code = judged.exit_code
        print("\n".join(judged.lines()), file=sys.stderr, flush=True)
        self._result = judged
        self._report(judged.as_json())

    def note_headway(self) -> None:
        """Update `begun_file`, which tells the waiting process that the run has begun, or makes progress."""
        if self._options.report:
            with contextlib.suppress(OSError):  # a full disk is reported at the end
                begun_file(Path(self._options.report)).touch()

    def _report(self, told: Mapping[str, Any]) -> None:
        """Write `told` to the file that `--redisq-report` names. On a full disk it takes the space reserved for it."""
        if self._options.report:
            report = Path(self._options.report)
            reserve_file(report).unlink(missing_ok=True)
            try:
                part = report.with_name("part")
                part.write_text(json.dumps(told, indent=2))
                part.replace(report)
            except OSError as error:
                print(f"The result could not be written to {report}: {error.strerror}", file=sys.stderr, flush=True)

    def _finish_files(self, **_: Any) -> None:
        """Write Locust's own files at the very end. If a file is missing, a pass becomes exit status 4."""
        if self._html_file:
            write_html(self._environment, self._html_file)
        if locust_writers.failures and self._result:
            told = self._result.as_json()
            code = EXIT_NOT_RUN if told["exit_code"] == EXIT_PASS else told["exit_code"]
            self._report({**told, "exit_code": code, "notes": [*told["notes"], *locust_writers.failures]})


def _let_be_written(**_: Any) -> None:
    """Wait until Locust has written its CSV files: at its end it closes them without the last figures."""
    gevent.sleep(1.2 * CSV_STATS_INTERVAL_SEC)
