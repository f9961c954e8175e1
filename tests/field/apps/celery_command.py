"""A Celery worker as a consumer command: `python -m tests.field.apps.celery_command`; the broker is REDIS_URL's.

It acknowledges after the job. What a killed worker held is restored by the others after the visibility timeout.
"""

from __future__ import annotations

import os

from celery import Celery

from tests.field.apps import line_worker

#: Seconds after which kombu restores what a worker has not acknowledged; it looks every ten seconds.
VISIBILITY_SECONDS = 1
IDLE_SECONDS = 13.0

app = Celery("lines", broker=os.environ.get("REDIS_URL"))
app.conf.update(
    worker_enable_remote_control=False,
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    broker_transport_options={"visibility_timeout": VISIBILITY_SECONDS},
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
)


@app.task(name="line")
def line(body: str) -> None:
    line_worker.received(body)


if __name__ == "__main__":
    line_worker.attend(IDLE_SECONDS)
    app.worker_main(["worker", "--pool", "solo", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"])
