"""Explore the interleavings of real clients on a real Redis: find a failing schedule, shrink it, replay it.

`explore(scenario, url=…)` runs a scenario under many schedules; `replay(scenario, "AABBBA", url=…)` under one.
"""

from __future__ import annotations

from pytest_redisq.errors import ScheduleError
from pytest_redisq.explore.actor import Actor
from pytest_redisq.explore.actor_controller import StuckError
from pytest_redisq.explore.actor_threads import ActorKilled
from pytest_redisq.explore.execution import Execution, NondeterminismError
from pytest_redisq.explore.execution_loop import DeadlockError, EndlessError
from pytest_redisq.explore.exploration import Exploration, Failure
from pytest_redisq.explore.exploration_arguments import exploration_arguments
from pytest_redisq.explore.exploration_progress import progress_line
from pytest_redisq.explore.explorer import explore, replay
from pytest_redisq.explore.failures import ScheduleStore
from pytest_redisq.explore.queue_scenario import can_explore, queue_scenario
from pytest_redisq.explore.scenario_runner import Scenario
from pytest_redisq.explore.schedule import Schedule, Step, StepKind
from pytest_redisq.explore.schedulers.scheduler_factory import STRATEGIES, Strategy
from pytest_redisq.explore.world import World

__all__ = [
    "STRATEGIES",
    "Actor",
    "ActorKilled",
    "DeadlockError",
    "EndlessError",
    "Execution",
    "Exploration",
    "Failure",
    "NondeterminismError",
    "Scenario",
    "Schedule",
    "ScheduleError",
    "ScheduleStore",
    "Step",
    "StepKind",
    "Strategy",
    "StuckError",
    "World",
    "can_explore",
    "exploration_arguments",
    "explore",
    "progress_line",
    "queue_scenario",
    "replay",
]
