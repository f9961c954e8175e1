"""Celery under the conformance kit: an application sends messages, and kombu receives them one at a time."""

from __future__ import annotations

import base64
import time
from typing import Any

import kombu
from celery import Celery
from redis import Redis

from pytest_redisq import conformance

QUEUE = "celery"
#: Seconds between two polls of the queue.
POLL_SECONDS = 0.01


class Taken:
    """A task that a worker has received. Celery's messages are JSON, so the body is text."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.id: str = message.headers["id"]
        self.body = base64.b64decode(message.payload[0][0])


class CeleryQueue:
    """A Celery queue for one worker, on kombu's own connections."""

    def __init__(self, client: Redis) -> None:
        self.app = Celery("example", broker=_url(client), set_as_current=False)
        self.connection = self.app.connection_for_read()
        self.queue: Any = kombu.Queue(QUEUE)(self.connection.default_channel)
        self.queue.declare()

    def put(self, body: bytes) -> str:
        return str(self.app.send_task("work", args=(base64.b64encode(body).decode(),)).id)

    def get(self, timeout_seconds: float) -> Taken | None:
        """Poll the queue. The BRPOP of a consumer would still wait after the timeout, and take a message unread."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            message = self.queue.get(accept=["json"])
            if message is not None:
                return Taken(message)
            if time.monotonic() >= deadline:
                return None
            time.sleep(POLL_SECONDS)

    def ack(self, taken: Taken) -> None:
        taken.message.ack()

    def close(self) -> None:
        self.connection.close()
        self.app.close()


def _url(client: Redis) -> str:
    at = client.connection_pool.connection_kwargs
    return f"redis://{at.get('username') or ''}:{at.get('password') or ''}@{at['host']}:{at['port']}/{at.get('db', 0)}"


# A worker that is killed between its pop and its note of the message loses the message, so this test has no such fault.
# kombu opens its own connections, so there are no schedules.
TestCelery = conformance(CeleryQueue, contract="at-least-once", workers=("thread",), faults=(), schedules=0)
