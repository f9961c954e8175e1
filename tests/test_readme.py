"""README is true: its examples run, its tables are the code's own, and what it shows is what is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_redisq.options import markdown_table

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")

#: Each example by the file that it is said to be.
EXAMPLES = dict(re.findall(r"<!-- test: (\S+) -->\n```python\n(.*?)```", README, re.DOTALL))

#: What an example prints, as far as it is shown.
OUTPUTS = dict(re.findall(r"<!-- output: (\S+) -->\n```\n(.*?)```", README, re.DOTALL))

pytestmark = pytest.mark.server


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_does_what_is_said(name: str, pytester: pytest.Pytester) -> None:
    """It passes, unless README shows how it fails."""
    pytester.makepyfile(**{name.removesuffix(".py"): EXAMPLES[name]})
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    result = pytester.runpytest_subprocess("-q")
    shown = OUTPUTS.get(name)
    if shown is None:
        result.assert_outcomes(passed=1)
    else:
        result.assert_outcomes(failed=1)
        assert _shape(shown) <= _shape(result.stdout.str())


def test_the_example_of_the_first_page_is_cured_as_it_says(pytester: pytest.Pytester) -> None:
    broken = EXAMPLES["test_orders.py"]
    cured = re.sub(r"body = self.*return body", 'return self.client.lpop("orders")', broken, flags=re.DOTALL)
    assert cured != broken
    pytester.makepyfile(cured)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)


def _shape(text: str) -> set[str]:
    """The lines of a report without figures and paths, which differ from run to run; "…" stands for lines left out."""
    lines = {re.sub(r"\S*/\S*", "#", line) for line in text.splitlines()}
    return {re.sub(r"[\d,.]+", "#", line).removeprefix("E").strip() for line in lines} - {"…", ""}


def test_the_options_are_those_of_the_table() -> None:
    assert markdown_table() in README
