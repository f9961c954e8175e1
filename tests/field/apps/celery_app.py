"""A Celery application; its broker is that of the environment."""

from __future__ import annotations

import os

from celery import Celery

from tests.field.programs import done

app = Celery("field", broker=os.environ.get("REDIS_URL"))
app.conf.worker_enable_remote_control = False


@app.task(name="run")
def run(number: int) -> None:
    done(number)
