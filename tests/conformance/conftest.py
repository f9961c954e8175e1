"""The kit runs its own Hypothesis tests under our profiles."""

from __future__ import annotations

import tests.hypothesis_profiles  # noqa: F401  it loads one
