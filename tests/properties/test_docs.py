"""docs/properties.md is true: its examples run, and it names every strategy and every property."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_redisq import properties
from pytest_redisq.properties import strategies
from pytest_redisq.properties.kit_properties import KIT_PROPERTIES

TEXT = (Path(__file__).parents[2] / "docs" / "properties.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- test: (\S+) -->\n```python\n(.*?)```", TEXT, re.DOTALL))

#: It is the text that is tested here.
_FEW_EXAMPLES = """
from hypothesis import settings
settings.register_profile("few", max_examples=10)
settings.load_profile("few")
"""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_passes(name: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(**{name.removesuffix(".py"): EXAMPLES[name]})
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makeconftest(_FEW_EXAMPLES)
    pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)


def test_every_law_is_told() -> None:
    rows = [f"| {kit_property.name} | {kit_property.words} | {kit_property.by} |" for kit_property in KIT_PROPERTIES]
    assert "\n".join(rows) in TEXT


def test_every_strategy_is_told_with_its_arguments_and_has_an_example() -> None:
    drawn = [name for name in properties.__all__ if name.islower() and hasattr(strategies, name)]
    for name in drawn:
        strategy = getattr(strategies, name)
        (told,) = re.findall(rf"^\| `{name}\((.*?)\)`", TEXT, re.MULTILINE)
        names = [argument.partition("=")[0] for argument in re.findall(r"\w+(?:=[^,(]*)?", told.partition("of=")[0])]
        assert names == [each for each in inspect.signature(strategy).parameters if each != "of"], name
        assert ">>>" in (inspect.getdoc(strategy) or ""), name


def test_who_lacks_hypothesis_is_told_what_to_install() -> None:
    """And can have all else, by star."""
    program = """if True:
        import sys
        sys.modules["hypothesis"] = None
        from pytest_redisq import *
        try:
            from pytest_redisq import conformance
        except ModuleNotFoundError as error:
            print(error)
        import pytest_redisq.properties"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    for told in (done.stdout, done.stderr):
        assert told.splitlines()[-1].endswith("needs Hypothesis: pip install 'pytest-redisq[property]'")
