"""An RQ worker as a consumer command: `python -m tests.field.apps.rq_command`; the server is REDIS_URL's."""

from __future__ import annotations

import os

import redis
import rq

from tests.field.apps import line_worker

IDLE_SECONDS = 1.0


def line(body: str) -> None:
    line_worker.received(body)


if __name__ == "__main__":
    line_worker.attend(IDLE_SECONDS)
    connection = redis.Redis.from_url(os.environ["REDIS_URL"])
    rq.SimpleWorker([rq.Queue("lines", connection=connection)], connection=connection).work(logging_level="ERROR")
