"""Workers that run as programs of their own, as their users run them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import redis

from pytest_redisq.explore import World, replay

ROOT = Path(__file__).parents[2]
#: Where applications say what they have done.
DONE = "done"


def done(number: int) -> None:
    """Called by a job: say so in the Redis that the program was given."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.rpush(DONE, number)


def wait(client: redis.Redis) -> int:
    """The number of the next job that is done."""
    said = client.blpop([DONE])
    return int(said[1])


def patient(url: str) -> redis.Redis:
    """A client that waits as long as it takes a program to begin."""
    return redis.Redis.from_url(url, socket_timeout=None)


def runs_a_job(url: str, produce: Callable[[str], None], *command: str) -> None:
    """One job is enqueued by one actor and run by another, the program that `python COMMAND…` is."""

    def scenario(world: World) -> None:
        world.actor(produce, gets="url")
        waiting = world.actor(wait)
        # Last, so that it does not go on alone: it polls, and with another date each time.
        world.process([sys.executable, *command], env={"PYTHONPATH": os.fspath(ROOT)}, name="worker", background=True)
        world.run()
        assert waiting.result == 1

    ran = replay(scenario, "", url=url, client=patient)
    if ran.error:
        raise ran.error
