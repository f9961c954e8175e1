"""Locust's CSV and HTML files. A full disk becomes a message; Locust alone would end with a traceback."""

from __future__ import annotations

import sys
from typing import Any

import locust.stats
from locust.env import Environment
from locust.html import get_html_report, process_html_filename
from locust.stats import StatsCSVFileWriter

#: The files that could not be written by this process, in words.
failures: list[str] = []


class _CsvWriter(StatsCSVFileWriter):
    def stats_writer(self) -> None:
        try:
            super().stats_writer()
        except OSError as error:
            _note("--csv", self.base_filepath, error)

    def close_files(self) -> None:
        handles = (
            self.requests_csv_filehandle,
            self.stats_history_csv_filehandle,
            self.failures_csv_filehandle,
            self.exceptions_csv_filehandle,
        )
        for handle in handles:
            try:
                handle.close()
            except OSError as error:
                _note("--csv", handle.name, error)


def install() -> None:
    """Make Locust write its CSV files by a writer that goes on when the disk is full."""
    locust.stats.StatsCSVFileWriter = _CsvWriter  # type: ignore[misc]


def write_html(environment: Environment, path: str) -> None:
    """Write Locust's HTML report."""
    options: Any = environment.parsed_options
    options.html_file = path
    process_html_filename(options)
    try:
        with open(options.html_file, "w", encoding="utf-8") as file:
            file.write(get_html_report(environment, show_download_link=False))  # type: ignore[no-untyped-call]
    except OSError as error:
        _note("--html", options.html_file, error)
    options.html_file = None


def _note(option: str, path: str, error: OSError) -> None:
    failures.append(f"{option}: {path} could not be written: {error.strerror or error}")
    print(failures[-1], file=sys.stderr, flush=True)
