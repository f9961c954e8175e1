"""taskiq-redis under the conformance kit: its broker sends the messages, and its receiver gets them."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from taskiq import BrokerMessage
from taskiq_redis import ListQueueBroker

from pytest_redisq.properties import conformance

#: Seconds between two attempts to end a wait in the server.
AGAIN_SECONDS = 0.01


class TaskIQ:
    """A taskiq queue on a list, for one worker. The receiver has its own connection, because it waits on it."""

    def __init__(self, client: Redis) -> None:
        pool: Any = client.connection_pool
        alone = type(pool)(connection_class=pool.connection_class, max_connections=1, **pool.connection_kwargs)
        self.client: Any = client
        self.sender = _broker(pool)
        self.receiver = _broker(alone)
        self.listener: Any = Redis(connection_pool=alone)
        self.messages: Any = self.receiver.listen()
        self.waiting: asyncio.Task[bytes] | None = None

    async def put(self, body: bytes) -> None:
        await self.sender.kick(BrokerMessage(task_id="1", task_name="work", message=body, labels={}))

    async def get(self, timeout_seconds: float) -> bytes | None:
        """Get a task. The receiver waits without limit, so at the timeout its pop is ended first: no task is lost."""
        number = await self.listener.client_id()
        self.waiting = waiting = asyncio.ensure_future(anext(self.messages))
        await asyncio.wait([waiting], timeout=timeout_seconds)
        while not waiting.done():
            await self.client.execute_command("CLIENT UNBLOCK", number, "ERROR")
            await asyncio.wait([waiting], timeout=AGAIN_SECONDS)
        try:
            body: bytes = waiting.result()
        except ResponseError:
            self.messages = self.receiver.listen()
            return None
        return body

    async def close(self) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
            await asyncio.gather(self.waiting, return_exceptions=True)
        await self.messages.aclose()
        await self.listener.connection_pool.disconnect()


def _broker(pool: Any) -> ListQueueBroker:
    broker = ListQueueBroker("redis://unused")
    broker.connection_pool = pool
    return broker


# A task is popped before it runs: a killed worker loses its task. Without "drop:connections": the receiver ends with
# its connection, and this test does not cover the reaction of its worker process.
TestTaskIQ = conformance(
    TaskIQ, contract="at-most-once, fifo", workers=("asyncio",), faults=("kill:consumer", "kill-holding:consumer")
)
