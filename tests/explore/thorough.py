"""How much the explorer tries: little by default; EXPLORE_THOROUGH=1 takes 5 000 schedules, and the time for them."""

from __future__ import annotations

import os

import pytest

THOROUGH = bool(os.environ.get("EXPLORE_THOROUGH"))
#: For each test of a module.
TIME = pytest.mark.timeout(3_600 if THOROUGH else 120)


def schedules(few: int) -> int:
    """How many schedules something right must pass."""
    return 5_000 if THOROUGH else few
