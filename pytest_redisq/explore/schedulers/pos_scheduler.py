"""Partial order sampling.

X. Yuan, J. Yang, R. Gu, "Partial Order Aware Concurrency Sampling", CAV 2018.
"""

from __future__ import annotations

import random

from pytest_redisq.explore.schedule import ChoicePoint, Step


class PosScheduler:
    """Random priorities: the step of highest priority goes, and those that it conflicts with draw new priorities."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._priorities: dict[tuple[int, int], float] = {}

    def choose(self, point: ChoicePoint) -> Step:
        """The enabled step of highest priority."""
        priorities = self._priorities
        for enabled in point.enabled_steps:
            if (enabled.actor, enabled.connection) not in priorities:
                priorities[enabled.actor, enabled.connection] = self._rng.random()
        chosen = max(point.enabled_steps, key=lambda enabled: priorities[enabled.actor, enabled.connection])
        for enabled in point.enabled_steps:
            if enabled is chosen or enabled.footprint.conflicts(chosen.footprint):
                del priorities[enabled.actor, enabled.connection]
        return chosen.step
