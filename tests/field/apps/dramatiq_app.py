"""A Dramatiq application."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.field.programs import done


def run(number: int) -> None:
    done(number)


def actor_on(broker: RedisBroker) -> Any:
    """The actor, on a broker."""
    return dramatiq.actor(run, broker=broker)
