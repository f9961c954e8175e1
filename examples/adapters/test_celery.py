"""Celery under the conformance kit: sent by an application, taken by kombu, one message at a time."""

from __future__ import annotations

import base64
import time
from typing import Any

import kombu
from celery import Celery
from redis import Redis

from pytest_redisq import conformance

QUEUE = "celery"
#: Between two looks at the queue, in seconds.
POLL_SECONDS = 0.01


class Taken:
    """A task in a worker's hands. Celery's messages are JSON, so the body travels as text."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.id: str = message.headers["id"]
        self.body = base64.b64decode(message.payload[0][0])


class CeleryQueue:
    """One worker's end of a Celery queue, on connections that kombu makes itself."""

    def __init__(self, client: Redis) -> None:
        self.app = Celery("example", broker=_url(client), set_as_current=False)
        self.connection = self.app.connection_for_read()
        self.queue: Any = kombu.Queue(QUEUE)(self.connection.default_channel)
        self.queue.declare()

    def put(self, body: bytes) -> str:
        return str(self.app.send_task("work", args=(base64.b64encode(body).decode(),)).id)

    def get(self, timeout_seconds: float) -> Taken | None:
        """By asking: a consumer's BRPOP would be waiting still when we have given up, and take what nobody reads."""
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


# A worker that is killed between its pop and the note of what it has taken takes it along, so no such fault here; and
# kombu's connections are its own, so no schedules.
TestCelery = conformance(CeleryQueue, contract="at-least-once", workers=("thread",), faults=(), schedules=0)
