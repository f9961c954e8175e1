"""One meaning for each name in the package, and bounds on the size of files and functions. There are no exceptions."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "pytest_redisq").rglob("*.py"))
MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 400, 60


def test_a_class_name_has_one_meaning() -> None:
    """Leading underscores do not count: `_Session` and `Session` are one name for a reader."""
    names = [node.name.lstrip("_") for _, node in _nodes() if isinstance(node, ast.ClassDef)]
    assert _doubled(names) == set()


def test_a_file_name_has_one_meaning() -> None:
    assert _doubled([path.name for path in SOURCES if path.name != "__init__.py"]) == set()


def test_no_file_is_long() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {path for path, count in lines.items() if count > MOST_LINES_OF_A_FILE} == set()


def test_no_function_is_long() -> None:
    """The docstring does not count: a public function documents its parameters one by one."""
    long = {
        f"{path.relative_to(ROOT).as_posix()}:{node.name}"
        for path, node in _nodes()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _lines_of_code(node) > MOST_LINES_OF_A_FUNCTION
    }
    assert long == set()


def _lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (function.end_lineno or 0) - function.lineno + 1
    docstring = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def _doubled(names: list[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def _nodes() -> Iterator[tuple[Path, ast.AST]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node
