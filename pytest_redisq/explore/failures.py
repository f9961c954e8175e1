"""Failing schedules, stored between test runs: the schedule that failed last is tried first."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pytest_redisq import failure_store
from pytest_redisq.explore.exploration import Exploration
from pytest_redisq.explore.scenario_runner import Scenario
from pytest_redisq.explore.schedule import Schedule


class ScheduleStore:
    """Stores the failure of each scenario of each test in a file of its own, in `directory` (None: stores nothing).

    Law: what `first` returns for a scenario never changes while the process lives. Inside `@given` the same example
    must have the same result each time, whatever was found in between.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._first: dict[Path, tuple[Schedule, ...]] = {}

    def first(self, scenario: Scenario) -> tuple[Schedule, ...]:
        """The schedule under which the scenario failed when it was last explored, or none."""
        path = self._path(scenario)
        if path is None:
            return ()
        if path not in self._first:
            self._first[path] = _read(path)
        return self._first[path]

    def keep(self, scenario: Scenario, exploration: Exploration) -> None:
        """Store the failure as JSON and as a picture. If there was none, delete the stored one.

        A folder that cannot be written is ignored, because an error here would hide the failure.
        """
        path = self._path(scenario)
        if path is None:
            return
        picture = path.with_suffix(".html")
        if exploration.failure is None:
            path.unlink(missing_ok=True)
            picture.unlink(missing_ok=True)
            return
        record = exploration.failure.record() | {"test": _test(), "scenario": _place(scenario)}
        with contextlib.suppress(OSError):
            failure_store.write(path, json.dumps(record, indent=1) + "\n")
            failure_store.write(picture, exploration.failure.page())
            exploration.picture = picture

    def keeping(
        self, scenario: Scenario, also: Callable[[Exploration], None] | None = None
    ) -> Callable[[Exploration], None]:
        """Returns a `progress` for `explore` that stores a failure as soon as it is found, and whenever a smaller one
        is. `also`: called each time as well.

        So a failure is stored whatever ends the process: Ctrl-C, or a timeout that exits.
        """
        stored: object = None

        def progress(so_far: Exploration) -> None:
            nonlocal stored
            if so_far.failure and so_far.failure.execution is not stored:
                stored = so_far.failure.execution
                self.keep(scenario, so_far)
            if also:
                also(so_far)

        return progress

    def _path(self, scenario: Scenario) -> Path | None:
        if self._directory is None:
            return None
        name = failure_store.file_name(f"{_test()}::{getattr(scenario, '__name__', 'scenario')}")
        return self._directory / f"{name}{failure_store.SCHEDULE}"


def _test() -> str:
    """The test that is running, from pytest's environment variable, such as "test_a.py::test_b (call)"."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]


def _place(scenario: Scenario) -> str:
    """`/folder/file.py::name`, by which another process can import the scenario; empty if it cannot."""
    name = getattr(scenario, "__qualname__", "")
    module = sys.modules.get(getattr(scenario, "__module__", ""))
    found = name and module is not None and getattr(module, name, None) is scenario
    return f"{module.__file__}::{name}" if found and module is not None and module.__file__ else ""


def _read(path: Path) -> tuple[Schedule, ...]:
    """The stored schedule; none if the file is damaged, because it is only a cache."""
    try:
        return (Schedule.parse(json.loads(path.read_text(encoding="utf-8"))["schedule"]),)
    except (OSError, ValueError, KeyError, TypeError):
        return ()
