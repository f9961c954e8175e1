"""A queue of coroutine functions, on asynchronous clients."""

import redis.asyncio

from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import OwnQueue


class Orders:
    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def put(self, body: bytes) -> None:
        await self.client.rpush("orders", body)

    async def get(self, timeout_seconds: float) -> bytes | None:
        popped = await self.client.blpop(["orders"], timeout_seconds)
        return popped[1] if popped else None


EngineUser, ProducerUser, ConsumerUser = users_of(OwnQueue(Orders, contract="effectively-once"))
