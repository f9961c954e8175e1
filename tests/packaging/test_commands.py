"""The commands in README exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = set(re.findall(r"(?m)(?:^|`)make ([a-z]+)(?:`| +#|$)", (ROOT / "README.md").read_text()))


def test_readme_names_the_two_commands() -> None:
    assert {"demo", "test"} <= NAMED


@pytest.mark.parametrize("target", sorted(NAMED | {"check", "bench", "clean", "help"}))
def test_the_makefile_has_every_command(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
