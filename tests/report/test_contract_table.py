"""The documentation says what the judge does."""

from __future__ import annotations

from pathlib import Path

from pytest_redisq.report import laws_table

DOCUMENT = Path(__file__).parents[2] / "docs" / "contracts.md"


def test_the_document_has_the_table_that_the_judge_goes_by() -> None:
    assert laws_table() in DOCUMENT.read_text(encoding="utf-8")
