"""Regressions: failed schedules and histories, kept in a folder and repeated with every test run.

`redisq keep` writes a regression, a TOML file, from a failure. A module in the same folder makes a test of each:

    from pytest_redisq.regressions import regressions

    test_regression = regressions(__file__)

A regression has a `name`, a sentence that says `why` it is kept, and a `verdict`: "holds", or "fails" for a bug that
is intended or not fixed yet. It is one of these:

* a `scenario` (`tests/test_drain.py::two_drainers`, a function of a `world`) and a `schedule`: if it is to hold, the
  schedule is followed as far as it still goes; if it is to fail, to the letter, and by the same `error`;
* a `test` that explores (`tests/test_drain.py::test_drain`) and a `schedule`, where the scenario is no function that a
  module has: that test is run with `--redisq-replay`, in a process of its own, or, where the schedule cannot be
  followed any more, as it is;
* a `history`, a file of JSON Lines beside the regression, and a `contract`, by which it is judged again.

`needs` lists releases ("rq==3.0.0", "redis>=6") without which the regression has nothing to run, and is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any
from unicodedata import category

import pytest
from packaging.requirements import InvalidRequirement, Requirement

from pytest_redisq import failure_store
from pytest_redisq.check import Contract, check
from pytest_redisq.children import ChildProcess
from pytest_redisq.errors import DeliveryError, RedisqError
from pytest_redisq.explore import NondeterminismError, Schedule
from pytest_redisq.facade import Redisq
from pytest_redisq.faults import EXPLORE_FAULTS
from pytest_redisq.history import read_history
from pytest_redisq.report import explain
from pytest_redisq.spelling import suggest

VERDICTS = ("holds", "fails")
#: A test that is run in a process of its own ends within this, in seconds.
TEST_SECONDS = 120

#: The Unicode categories of what a terminal may obey, and of what UTF-8 has no form for (lone surrogates).
_CONTROL = ("Cc", "Cs")

_MODULE = '''"""Regressions: `redisq keep` adds to them, and each must have the result that its file states."""

from __future__ import annotations

from pytest_redisq.regressions import regressions

test_regression = regressions(__file__)
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """One kept run; see this module's docstring. `file` is where it stands."""

    file: Path
    name: str
    why: str
    verdict: str
    scenario: str = ""
    test: str = ""
    schedule: str = ""
    history: str = ""
    contract: str = ""
    #: The type of what is raised; empty: any.
    error: str = ""
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if missing := [name for name in ("name", "why") if not str(getattr(self, name)).strip()]:
            raise ValueError(f"{self.file}: {' and '.join(missing)} must say something")
        for said, allowed in (("name", ""), ("why", "\n\t")):
            if strange := [each for each in getattr(self, said) if category(each) in _CONTROL and each not in allowed]:
                raise ValueError(f"{self.file}: {said} has {strange[0]!r} in it; give text without control characters")
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.file}: verdict = {self.verdict!r} must be one of {', '.join(VERDICTS)}")
        if sum(map(bool, (self.scenario, self.test, self.history))) != 1:
            raise ValueError(f"{self.file}: one of scenario, test and history says what is to be run")
        for need in self.needs:
            try:
                Requirement(need)
            except InvalidRequirement as error:
                raise ValueError(f"{self.file}: needs {need!r}, which is no release: {error}") from None
        wanted = "contract" if self.history else "schedule"
        if not getattr(self, wanted):
            raise ValueError(f"{self.file}: {wanted} is missing")
        try:
            if self.history:
                Contract.parse(self.contract)
            else:
                Schedule.parse(self.schedule)
        except ValueError as error:
            raise ValueError(f"{self.file}: {wanted}: {error}") from None

    def missing(self) -> str:
        """The releases that it needs and that are not installed; empty if there are none."""
        return ", ".join(need for need in self.needs if not _is_installed(need))

    def text(self) -> str:
        """The regression as a file says it."""
        said = [(each.name, getattr(self, each.name)) for each in fields(self) if each.name != "file"]
        # A JSON string, and a list of them, is one of TOML too, but for DEL, which JSON does not escape.
        return "".join(
            f"{name} = {json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}\n"
            for name, value in said
            if value
        ).replace("\x7f", "\\u007f")


def read_regression(file: Path) -> Regression:
    """The regression in `file`. Raises ValueError, with the file's name, for what is none."""
    try:
        said: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: no TOML: {error}") from None
    known = [each.name for each in fields(Regression) if each.name != "file"]
    for name, value in said.items():
        if name not in known:
            raise ValueError(f"{file}: unknown key {name!r}.{suggest(name, known)} There are: {', '.join(known)}.")
        texts = value if name == "needs" and isinstance(value, list) else [value]
        if (name == "needs") != isinstance(value, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{file}: {name} = {value!r} is to be {'a list of texts' if name == 'needs' else 'text'}")
    if absent := [name for name in ("name", "why", "verdict") if name not in said]:
        raise ValueError(f"{file}: {', '.join(absent)} missing")
    return Regression(file=file, **{**said, "needs": tuple(said.get("needs", ()))})


def read_regressions(folder: Path) -> list[Regression]:
    """Those of a folder, by their files' names."""
    return [read_regression(file) for file in sorted(folder.glob("*.toml"))]


def regressions(where: str | os.PathLike[str]) -> Callable[..., None]:
    """A test for each regression of the folder `where` (or of the folder in which the file `where` is).

    A file that is no regression fails its own test, and no other.
    """
    folder = Path(where) if Path(where).is_dir() else Path(where).parent
    files = sorted(folder.glob("*.toml"))

    @pytest.mark.parametrize("file", files, ids=[file.stem for file in files])
    def test_regression(redisq: Redisq, file: Path, request: pytest.FixtureRequest) -> None:
        __tracebackhide__ = True
        try:
            regression = read_regression(file)
        except ValueError as error:
            pytest.fail(str(error), pytrace=False)
        if missing := regression.missing():
            pytest.skip(f"about {missing}, which is not installed")
        run(regression, redisq, request.config.rootpath)

    return test_regression


def run(regression: Regression, redisq: Redisq, root: Path) -> None:
    """Run it once; paths of scenarios and tests are relative to `root`.

    Raises AssertionError where it comes out otherwise than it says; what the scenario raised is its cause.
    """
    __tracebackhide__ = True
    failure = _failure(regression, redisq, root)
    if regression.verdict == "holds":
        if failure is not None:
            raise AssertionError(
                f"{regression.name}: it fails again. {regression.why}\n{regression.file}\n{failure}"
            ) from failure
        return
    if failure is None:
        raise AssertionError(
            f"{regression.name}: it does not fail any more. {regression.why}\n"
            f'If it is cured, say verdict = "holds" in {regression.file}'
        )
    if regression.error not in ("", type(failure).__name__):
        raise AssertionError(
            f"{regression.name}: it fails with another error than {regression.error}: {failure!r}"
        ) from failure


def _failure(regression: Regression, redisq: Redisq, root: Path) -> BaseException | None:
    __tracebackhide__ = True
    if regression.history:
        history = read_history(regression.file.parent / regression.history)
        verdict = check(history, Contract.parse(regression.contract))
        return None if verdict.outcome == "pass" else DeliveryError(explain(verdict), history=history)
    if regression.test:
        return _of_a_test(regression, root)
    scenario = find(regression.scenario, root)
    try:
        if regression.verdict == "fails":
            redisq.replay(scenario, regression.schedule)
        else:
            schedule = Schedule.parse(regression.schedule)
            # What cured it has other steps, so the schedule is followed as far as it goes.
            redisq.explore(scenario, first=[schedule], schedules=1, faults=EXPLORE_FAULTS, max_faults=len(schedule))
    except RedisqError:
        raise
    except (Exception, pytest.fail.Exception) as failure:
        return failure.__cause__ if type(failure).__name__ == "ScheduleError" and failure.__cause__ else failure
    return None


def _of_a_test(regression: Regression, root: Path) -> BaseException | None:
    """What becomes of a test under the schedule; where that cannot be followed any more, in an exploration."""
    code, said = _run_test(root, regression.test, "--redisq-replay", regression.schedule)
    if NondeterminismError.__name__ in said:
        code, said = _run_test(root, regression.test)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise AssertionError(f"{regression.test} could not be run:\n{said}")
    return AssertionError(said) if code else None


def _run_test(root: Path, *words: str) -> tuple[int, str]:
    child = ChildProcess(  # so that it ends with this process, however that is ended
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *words],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")},
    )
    with child.process:
        try:
            told, _ = child.process.communicate(timeout=TEST_SECONDS)
        finally:
            child.end()
    return child.process.returncode, told


def find(place: str, root: Path) -> Any:
    """What `folder/file.py::name` is; below `root`. Raises ValueError where there is no such thing."""
    path, _, name = place.partition("::")
    file = root / path
    if not name or not file.is_file():
        raise ValueError(f"no scenario: {place!r}; it is to be FILE.py::FUNCTION, below {root}")
    found: Any = _module(file, root)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"no scenario: {file} has no {name!r}.{suggest(part, vars(found))}")
        found = getattr(found, part)
    return found


def _module(file: Path, root: Path) -> ModuleType:
    """The module in `file`: the one that pytest has imported already, if it has."""
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == os.fspath(file):
            return module
    name = ".".join(file.relative_to(root).with_suffix("").parts)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _is_installed(need: str) -> bool:
    wanted = Requirement(need)
    try:
        return wanted.specifier.contains(version(wanted.name), prereleases=True)
    except PackageNotFoundError:
        return False


# -- keeping ---------------------------------------------------------------------------------------------------------


def keep(failure: Path, folder: Path, *, name: str, why: str, verdict: str, contract: str) -> Path:
    """Save `failure` as a regression in `folder`, with a module that runs it if there is none; returns the file.

    `failure`: a file of the failure store. `name`, `why`, `verdict`, `contract`: see this module's docstring. Raises
    RedisqError if the folder has a regression of that name, or the failure cannot be repeated.
    """
    stem = failure_store.slug(re.sub(r"\W+", "-", name.lower()).strip("-"))
    if not stem:
        raise RedisqError(f"--name {name!r} has no letter and no digit, of which its file's name could be made.")
    file = folder / f"{stem}.toml"
    if os.path.lexists(file):
        raise RedisqError(f"{file} is there already.\nWhat to do: choose another --name, or delete it.")
    common: dict[str, Any] = {"file": file, "name": name, "why": why, "verdict": verdict}
    try:
        if failure.suffix == failure_store.HISTORY:
            regression = Regression(**common, history=f"{stem}.jsonl", contract=contract)
            read_history(failure)
        else:
            regression = Regression(**common, **_scheduled(json.loads(failure.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        raise RedisqError(f"{failure} cannot be kept: {error}") from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RedisqError(f"{failure} cannot be kept: it is no record of a failing schedule.") from error
    try:
        _write(regression, failure, folder)
    except OSError as error:
        raise RedisqError(f"{failure} cannot be kept in {folder}: {error}") from error
    return file


def _write(regression: Regression, failure: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if regression.history:
        shutil.copy(failure, folder / regression.history)
    regression.file.write_text(regression.text(), encoding="utf-8")
    modules = (each.read_text(encoding="utf-8", errors="replace") for each in folder.glob("*.py"))
    if not any("regressions(" in module for module in modules):
        (folder / "test_regressions.py").write_text(_MODULE, encoding="utf-8")


def _scheduled(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a regression from a schedule's record: the scenario if a module defines it, else the test."""
    if not record.get("scenario"):
        return {"test": record["test"], "schedule": record["schedule"]}
    path, _, name = record["scenario"].partition("::")
    here = Path(os.path.relpath(path)).as_posix()
    return {"scenario": f"{here}::{name}", "schedule": record["schedule"], "error": record["error"]}
