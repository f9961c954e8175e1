"""Regressions: failed schedules and histories, kept in a folder and repeated with every test run.

`redisq keep` writes a regression, a TOML file, from a failure. A module in the same folder makes a test of each:

    from pytest_redisq.regressions import regressions

    test_regression = regressions(__file__)

A regression has a `name`, a reason `why` it is kept, and a `verdict`: "holds", or "fails" for a bug that is intended or
not fixed yet. There are three kinds:

* A `scenario` (`tests/test_drain.py::two_drainers`, a function of a `world`) and a `schedule`. With "holds", the
  schedule is followed as far as possible. With "fails", it is followed exactly, and must raise the same `error`.
* A `test` that explores (`tests/test_drain.py::test_drain`) and a `schedule`, if the scenario is not a function of a
  module. The test is run with `--redisq-replay` in its own process. If the schedule can no longer be followed, the
  test is run without it.
* A `history`, a file of JSON Lines beside the regression, and a `contract`, by which it is judged again.

`needs` lists required releases ("rq==3.0.0", "redis>=6"). If one is not installed, the regression is skipped.
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
#: Seconds after which a test in its own process is ended.
TEST_SECONDS = 120

#: The Unicode categories of control characters, and of characters that UTF-8 cannot encode (lone surrogates).
_CONTROL = ("Cc", "Cs")

_MODULE = '''"""Regressions: `redisq keep` adds to them, and each must have the result that its file states."""

from __future__ import annotations

from pytest_redisq.regressions import regressions

test_regression = regressions(__file__)
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """One regression; see this module's docstring. `file`: its TOML file."""

    file: Path
    name: str
    why: str
    verdict: str
    scenario: str = ""
    test: str = ""
    schedule: str = ""
    history: str = ""
    contract: str = ""
    #: The type of the expected exception; empty: any.
    error: str = ""
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if missing := [name for name in ("name", "why") if not str(getattr(self, name)).strip()]:
            raise ValueError(f"{self.file}: {' and '.join(missing)} must not be empty")
        for said, allowed in (("name", ""), ("why", "\n\t")):
            if strange := [each for each in getattr(self, said) if category(each) in _CONTROL and each not in allowed]:
                raise ValueError(f"{self.file}: {said} contains {strange[0]!r}; write text without control characters")
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.file}: verdict = {self.verdict!r} must be one of {', '.join(VERDICTS)}")
        if sum(map(bool, (self.scenario, self.test, self.history))) != 1:
            raise ValueError(f"{self.file}: it must have exactly one of scenario, test and history")
        for need in self.needs:
            try:
                Requirement(need)
            except InvalidRequirement as error:
                raise ValueError(f"{self.file}: needs {need!r}, which is not a valid requirement: {error}") from None
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
        """The required releases that are not installed, separated by commas."""
        return ", ".join(need for need in self.needs if not _is_installed(need))

    def text(self) -> str:
        """The regression as TOML."""
        said = [(each.name, getattr(self, each.name)) for each in fields(self) if each.name != "file"]
        # JSON strings and lists of them are also valid TOML, except DEL, which JSON does not escape.
        return "".join(
            f"{name} = {json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}\n"
            for name, value in said
            if value
        ).replace("\x7f", "\\u007f")


def read_regression(file: Path) -> Regression:
    """The regression in `file`. Raises ValueError, with the file's name, if it is not valid."""
    try:
        said: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not a TOML file: {error}") from None
    known = [each.name for each in fields(Regression) if each.name != "file"]
    for name, value in said.items():
        if name not in known:
            raise ValueError(f"{file}: unknown key {name!r}.{suggest(name, known)} There are: {', '.join(known)}.")
        texts = value if name == "needs" and isinstance(value, list) else [value]
        if (name == "needs") != isinstance(value, list) or not all(isinstance(text, str) for text in texts):
            expected = "a list of strings" if name == "needs" else "a string"
            raise ValueError(f"{file}: {name} = {value!r} must be {expected}")
    if absent := [name for name in ("name", "why", "verdict") if name not in said]:
        raise ValueError(f"{file}: {', '.join(absent)} missing")
    return Regression(file=file, **{**said, "needs": tuple(said.get("needs", ()))})


def read_regressions(folder: Path) -> list[Regression]:
    """The regressions of a folder, sorted by file name."""
    return [read_regression(file) for file in sorted(folder.glob("*.toml"))]


def regressions(where: str | os.PathLike[str]) -> Callable[..., None]:
    """Returns a test function, parametrized with each regression of a folder.

    `where`: the folder, or a file in it. An invalid file fails only its own test.
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
            pytest.skip(f"needs {missing}, which is not installed")
        run(regression, redisq, request.config.rootpath)

    return test_regression


def run(regression: Regression, redisq: Redisq, root: Path) -> None:
    """Run the regression once. `root`: the folder that paths of scenarios and tests are relative to.

    Raises AssertionError if the result is not the expected verdict. Its cause is the exception of the scenario.
    """
    __tracebackhide__ = True
    failure = _failure(regression, redisq, root)
    if regression.verdict == "holds":
        if failure is not None:
            raise AssertionError(
                f"{regression.name}: it fails again. {regression.why}\n{regression.file}\n{failure}"
            ) from failure.__cause__
        return
    if failure is None:
        raise AssertionError(
            f"{regression.name}: it does not fail any more. {regression.why}\n"
            f'What to do: if the bug is fixed, write verdict = "holds" in {regression.file}'
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
            # Fixed code has other steps, so the schedule is followed as far as possible.
            redisq.explore(scenario, first=[schedule], schedules=1, faults=EXPLORE_FAULTS, max_faults=len(schedule))
    except RedisqError:
        raise
    except (Exception, pytest.fail.Exception) as failure:
        return failure
    return None


def _of_a_test(regression: Regression, root: Path) -> BaseException | None:
    """Run the test under the schedule, or without it if it can no longer be followed. Returns the failure, or None."""
    code, said = _run_test(root, regression.test, "--redisq-replay", regression.schedule)
    if NondeterminismError.__name__ in said:
        code, said = _run_test(root, regression.test)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise AssertionError(f"{regression.test} could not be run:\n{said}")
    return AssertionError(said) if code else None


def _run_test(root: Path, *words: str) -> tuple[int, str]:
    child = ChildProcess(  # it ends with this process, whatever signal ends this process
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
    """The object that `folder/file.py::name` names. `root`: the folder that the path is relative to.

    Raises ValueError if it does not exist.
    """
    path, _, name = place.partition("::")
    file = root / path
    if not name or not file.is_file():
        raise ValueError(f"no scenario {place!r}: write FILE.py::FUNCTION, with a file in {root}")
    found: Any = _module(file, root)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"no scenario {place!r}: {file} has no {name!r}.{suggest(part, vars(found))}")
        found = getattr(found, part)
    return found


def _module(file: Path, root: Path) -> ModuleType:
    """The module in `file`, imported only if pytest has not imported it already, and as pytest imports test modules:
    its `assert` tells the values.
    """
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == os.fspath(file):
            return module
    name = ".".join(file.relative_to(root).with_suffix("").parts)
    pytest.register_assert_rewrite(name)
    specs = (finder.find_spec(name, [os.fspath(file.parent)]) for finder in sys.meta_path)
    spec = next((spec for spec in specs if spec and spec.origin == os.fspath(file)), None)
    spec = spec or importlib.util.spec_from_file_location(name, file)
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
        raise RedisqError(f"--name {name!r} needs a letter or a digit: the file gets its name from it.")
    file = folder / f"{stem}.toml"
    if os.path.lexists(file):
        raise RedisqError(f"{file} exists already.\nWhat to do: choose another --name, or delete the file.")
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
        raise RedisqError(f"{failure} cannot be kept: it is not the record of a failing schedule.") from error
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
