"""The protocol of a scheduler, and the only source of chance that schedulers use.

Law: all chance comes from `random.Random` seeded by a string and used only through `random()`, whose sequence is the
same on every platform and Python version. So the same seed gives the same choices for the same commands.
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
