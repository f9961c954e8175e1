"""A huey; its Redis is that of the environment."""

from __future__ import annotations

import os

from huey import RedisHuey

from tests.field.programs import done


def app_at(url: str) -> RedisHuey:
    """The application, with its one task, at a URL."""
    huey = RedisHuey("field", url=url)
    huey.run = huey.task(name="run")(done)
    return huey


app = app_at(os.environ.get("REDIS_URL", "redis://127.0.0.1"))
