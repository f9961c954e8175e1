"""Regressions: `redisq keep` adds to them, and each must have the result that its file states.

S3's race is between processes and a file system, with no command of Redis in it that a schedule could hold: of it a
history is kept, and judged again. All others are schedules.
"""

from __future__ import annotations

import pytest

from pytest_redisq.regressions import regressions

#: Old releases of libraries do what was allowed in their time.
pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

test_regression = regressions(__file__)
