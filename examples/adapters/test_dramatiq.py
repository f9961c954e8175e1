"""Dramatiq under the conformance kit: its broker and its consumer, on the kit's own client."""

from __future__ import annotations

import base64
import time
from typing import Any

import redis
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed

from pytest_redisq import conformance

QUEUE = "jobs"


class Taken:
    """A message in a worker's hands. Dramatiq's messages are JSON, so the body travels as text."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.id: str = message.message_id
        self.body = base64.b64decode(message.args[0])


class Dramatiq:
    """One worker's end of a Dramatiq queue."""

    def __init__(self, client: redis.Redis) -> None:
        # What a dead worker held comes back after a minute; here after half a second, and every fetch looks for it.
        self.broker = RedisBroker(client=client, heartbeat_timeout=500, maintenance_chance=1_000_000, middleware=[])
        self.broker.declare_queue(QUEUE)
        self.client: Any = client
        self.consumer: Any = self.broker.consume(QUEUE, prefetch=1_000, timeout=1)

    def put(self, body: bytes) -> str:
        text = base64.b64encode(body).decode()
        message: Message[Any] = Message(queue_name=QUEUE, actor_name="work", args=(text,), kwargs={}, options={})
        return str(self.broker.enqueue(message).message_id)

    def get(self, timeout_seconds: float) -> Taken | None:
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                # One at a time: what it had in advance, it would hold without working on it.
                self.consumer.prefetch = self.consumer.outstanding_message_count + 1
                message = next(self.consumer)
            except ConnectionClosed as error:
                raise redis.ConnectionError(str(error)) from error
            if message is not None:
                return Taken(message)
            if time.monotonic() >= deadline:
                return None

    def ack(self, taken: Taken) -> bool:
        """False where it came too late: this worker was taken for dead, and the message went back into the queue."""
        try:
            self.consumer.ack(taken.message)
        except ConnectionClosed as error:
            raise redis.ConnectionError(str(error)) from error
        return not self.client.hexists(f"dramatiq:{QUEUE}.msgs", taken.message.options["redis_message_id"])

    def remaining(self) -> list[bytes]:
        return [body for message_id, body in self._all() if message_id in self._queued()]

    def pending(self) -> list[bytes]:
        return [body for message_id, body in self._all() if message_id not in self._queued()]

    def _queued(self) -> list[bytes]:
        return list(self.client.lrange(f"dramatiq:{QUEUE}", 0, -1))

    def _all(self) -> list[tuple[bytes, bytes]]:
        """What Dramatiq keeps of each message until it is acknowledged."""
        messages = self.client.hgetall(f"dramatiq:{QUEUE}.msgs").items()
        return [(message_id, base64.b64decode(Message.decode(data).args[0])) for message_id, data in messages]


# Not "drop:connections": a fetch notes with its worker what it takes. A worker that loses the reply lives on, is never
# taken for dead, and nobody gets those messages before its process ends. Whether a cut strikes just there is luck.
# No schedules: all of Dramatiq's brokers share a lock, and the first holds it while it asks the server.
TestDramatiq = conformance(
    Dramatiq,
    contract="at-least-once, fifo",
    workers=("thread", "process"),
    faults=("kill:consumer", "kill-holding:consumer"),
    schedules=0,
    settle_seconds=10,
    messages=150,
)
