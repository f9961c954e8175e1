"""The size of files and functions, and one meaning for each name in the package.

Each list of exceptions is what is still to be done. An entry that is no longer needed fails its test.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "pytest_redisq").rglob("*.py"))
MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 400, 60

#: Class names that more than one class has.
DOUBLED_CLASSES: set[str] = {"QueueMachine"}
#: File names that stand in more than one folder.
DOUBLED_FILES: set[str] = set()
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = {
    "pytest_redisq/runner/__init__.py:run",
}


def test_a_class_name_has_one_meaning() -> None:
    """Leading underscores do not count: `_Session` and `Session` are one name for a reader."""
    names = [node.name.lstrip("_") for _, node in _nodes() if isinstance(node, ast.ClassDef)]
    assert _doubled(names) == DOUBLED_CLASSES


def test_a_file_name_has_one_meaning() -> None:
    assert _doubled([path.name for path in SOURCES if path.name != "__init__.py"]) == DOUBLED_FILES


def test_no_file_is_long() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {path for path, count in lines.items() if count > MOST_LINES_OF_A_FILE} == LONG_FILES


def test_no_function_is_long() -> None:
    long = {
        f"{path.relative_to(ROOT).as_posix()}:{node.name}"
        for path, node in _nodes()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    }
    assert long == LONG_FUNCTIONS


def _doubled(names: list[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def _nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node
