"""The protocol of a scheduler, and the only source of randomness of schedulers.

Law: all randomness comes from `random.Random` seeded by a string, and only from its method `random()`: its sequence is
the same on every platform and Python version. So the same seed gives the same choices for the same commands.
"""

from __future__ import annotations

import random
from typing import Protocol

from pytest_redisq.explore.schedule import ChoicePoint, Step


class Scheduler(Protocol):
    """Chooses the steps of one execution."""

    def choose(self, point: ChoicePoint) -> Step:
        """A step that the choice point allows."""
        ...


def random_below(rng: random.Random, bound: int) -> int:
    return int(rng.random() * bound)
