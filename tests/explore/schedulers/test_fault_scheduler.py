"""fault_scheduler.py: a fault strikes where it was drawn, in each repetition of the execution."""

from __future__ import annotations

import random

from pytest_redisq.explore.footprint import NOTHING
from pytest_redisq.explore.schedule import ChoicePoint, EnabledStep, StepKind
from pytest_redisq.explore.schedulers.fault_scheduler import FaultScheduler
from pytest_redisq.explore.schedulers.plan_scheduler import PlanScheduler


def test_a_fault_strikes_again_when_the_execution_is_repeated() -> None:
    """As it is where the first commands had to load their scripts."""
    command = EnabledStep(actor=0, footprint=NOTHING, faults=(StepKind.LOSE_REPLY,))
    points = [ChoicePoint(position=position, enabled_steps=(command,)) for position in range(3)]
    scheduler = FaultScheduler(PlanScheduler({}), random.Random(1), places=[(0, 1)])
    kinds = [[scheduler.choose(point).kind for point in points] for _ in range(2)]
    assert kinds == [[StepKind.RUN, StepKind.LOSE_REPLY, StepKind.RUN]] * 2
