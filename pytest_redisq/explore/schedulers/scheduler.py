"""The protocol of a scheduler, and the only source of chance that schedulers use.

Law: all chance comes from `random.Random` seeded by a string and used only through `random()`, whose sequence is the
same on every platform and Python version. So the same seed gives the same choices for the same commands.
"""

from __future__ import annotations

import random
from typing import Protocol

from pytest_redisq.explore.schedule import ChoicePoint, Step


class Scheduler(Protocol):
    """Decides one run."""

    def choose(self, point: ChoicePoint) -> Step:
        """One of the ways to choose one of the point's options."""
        ...


def random_below(rng: random.Random, bound: int) -> int:
    return int(rng.random() * bound)
