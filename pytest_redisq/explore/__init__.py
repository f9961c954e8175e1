"""Every interleaving of real clients on a real Redis: found, shrunk and replayed.

`explore(scenario, url=…)` runs a scenario under many schedules; `replay(scenario, "AABBBA", url=…)` under one.
"""

from __future__ import annotations

from pytest_redisq.errors import ScheduleError
from pytest_redisq.explore.actors import ActorKilled
from pytest_redisq.explore.delivery import through
from pytest_redisq.explore.explorer import (
    Exploration,
    Failure,
    NondeterminismError,
    Ran,
    Scenario,
    explore,
    replay,
)
from pytest_redisq.explore.floor import Actor, StuckError
from pytest_redisq.explore.kept import Kept
from pytest_redisq.explore.progress import telling
from pytest_redisq.explore.schedule import FAULTS, Mark, Schedule, Step
from pytest_redisq.explore.search import STRATEGIES, Strategy
from pytest_redisq.explore.site import at
from pytest_redisq.explore.world import DeadlockError, EndlessError, World

__all__ = [
    "FAULTS",
    "STRATEGIES",
    "Actor",
    "ActorKilled",
    "DeadlockError",
    "EndlessError",
    "Exploration",
    "Failure",
    "Kept",
    "Mark",
    "NondeterminismError",
    "Ran",
    "Scenario",
    "Schedule",
    "ScheduleError",
    "Step",
    "Strategy",
    "StuckError",
    "World",
    "at",
    "explore",
    "replay",
    "telling",
    "through",
]
