"""Type checkers find a user's typing mistakes, and complain of nothing that is right."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MISTAKES = {
    number
    for number, line in enumerate((HERE / "mistakes.py").read_text(encoding="utf-8").splitlines(), 1)
    if "# mistake: " in line
}
pytestmark = pytest.mark.typing


def _mypy(path: Path) -> set[int]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parent.parent)
    assert out.stderr == ""
    return {int(number) for number in re.findall(rf"{path.name}:(\d+): error", out.stdout)}


def _pyright(*words: str) -> Any:
    """The findings of pyright with this interpreter's environment, as JSON."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it asks the first python on PATH
    command = [sys.executable, "-m", "pyright", "--outputjson", *words]
    out = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    return json.loads(out.stdout)


def _pyright_errors(path: Path) -> set[int]:
    found = _pyright(str(path))["generalDiagnostics"]
    return {each["range"]["start"]["line"] + 1 for each in found if each["severity"] == "error"}


def test_mypy_finds_each_mistake() -> None:
    assert _mypy(HERE / "mistakes.py") == MISTAKES


def test_mypy_passes_what_is_correct() -> None:
    assert _mypy(HERE / "correct.py") == set()


def test_pyright_finds_each_mistake() -> None:
    assert _pyright_errors(HERE / "mistakes.py") == MISTAKES


def test_pyright_passes_what_is_correct() -> None:
    assert _pyright_errors(HERE / "correct.py") == set()


def test_all_public_types_are_known() -> None:
    told = _pyright("--ignoreexternal", "--verifytypes", "pytest_redisq")["typeCompleteness"]
    unknown = [each["name"] for each in told["symbols"] if each["isExported"] and not each["isTypeKnown"]]
    assert unknown == []
    assert told["completenessScore"] == 1
