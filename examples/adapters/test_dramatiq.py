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
    """A message that a worker has received. Dramatiq's messages are JSON, so the body is text."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.id: str = message.message_id
        self.body = base64.b64decode(message.args[0])


class Dramatiq:
    """A Dramatiq queue for one worker."""

    def __init__(self, client: redis.Redis) -> None:
        # By default the messages of a dead worker return after a minute. Here they return after half a second, and
        # every fetch looks for them.
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
                # One at a time: it would keep prefetched messages without working on them.
                self.consumer.prefetch = self.consumer.outstanding_message_count + 1
                message = next(self.consumer)
            except ConnectionClosed as error:
                raise redis.ConnectionError(str(error)) from error
            if message is not None:
                return Taken(message)
            if time.monotonic() >= deadline:
                return None

    def ack(self, taken: Taken) -> bool:
        """Acknowledge. False if it is too late: this worker counted as dead, and the message returned to the queue."""
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
        """The messages that Dramatiq keeps until they are acknowledged."""
        messages = self.client.hgetall(f"dramatiq:{QUEUE}.msgs").items()
        return [(message_id, base64.b64decode(Message.decode(data).args[0])) for message_id, data in messages]


# Without "drop:connections": a fetch notes its messages under its worker. A worker that loses the reply lives on and
# never counts as dead, so no worker gets those messages before its process ends. A cut strikes there only by chance.
# Without schedules: all of Dramatiq's brokers share a lock, and the first holds it while it waits for the server.
TestDramatiq = conformance(
    Dramatiq,
    contract="at-least-once, fifo",
    workers=("thread", "process"),
    faults=("kill:consumer", "kill-holding:consumer"),
    schedules=0,
    settle_seconds=10,
    messages=150,
)
