"""The list of mutants fits the code: each can be applied, and the table has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants import MUTANTS, ROOT, first_failed


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_changes_is_there_once(mutant) -> None:  # type: ignore[no-untyped-def]
    assert (ROOT / "pytest_redisq" / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.old != mutant.new
    assert all(Path(ROOT, test).exists() for test in mutant.tests.split())


def test_the_table_has_each_mutant_once() -> None:
    rows = (ROOT / "tests" / "MUTANTS.md").read_text(encoding="utf-8").splitlines()
    told = [row.split(" | ")[:2] for row in rows if row.startswith("| `")]
    assert told == [[f"| `{mutant.file}`", mutant.name] for mutant in MUTANTS]


@pytest.mark.parametrize(
    ("summary", "name"),
    [
        ("FAILED tests/a.py::test_it - assert 1 == 2", "test_it"),
        ("FAILED tests/a.py::test_it[is cut off] - assert x[0] == 2", "test_it[is cut off]"),
        ("ERROR tests/a.py::test_it[a-b]", "test_it[a-b]"),
        ("1 passed in 0.1s", ""),
    ],
)
def test_what_failed_is_told_by_its_whole_name(summary: str, name: str) -> None:
    assert first_failed(f"...\n{summary}\n1 failed\n") == name
