# pyright: strict
"""Code of users: mypy --strict and pyright find no error in it."""

from __future__ import annotations

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pytest_redisq import (
    Contract,
    Fault,
    Redisq,
    ReliableList,
    StartServer,
    Stream,
    StreamGroup,
    World,
    conformance,
)


class Orders:
    def __init__(self, client: Redis) -> None:
        self.client = client

    def put(self, body: bytes) -> None:
        self.client.rpush("orders", body)

    def get(self, timeout_seconds: float | None = None) -> object:
        return self.client.blpop(["orders"], timeout_seconds)


def take(client: Redis, key: str) -> int:
    return client.llen(key)


async def take_async(client: AsyncRedis) -> list[str]:
    return [str(await client.get("a"))]


def test_run(redisq: Redisq, redisq_start: StartServer) -> None:
    jobs: ReliableList = redisq.reliable_list("jobs", lease_seconds=2)
    faults = [
        redisq.kill_consumer(after_messages=5, moment="holding"),
        Fault("drop", target="connections", after_messages=9),
    ]
    run = redisq.run(jobs, producers=2, consumers=2, messages=100, workers="process", faults=faults)
    redisq.run(jobs, faults="kill:server@5+1s")
    run.verify("at-least-once, fifo")
    run.verify("at-least-once, live=30s")
    run.verify(Contract.parse("at-least-once, live=7s"))
    redisq.run(Orders, workers="asyncio").verify("fan-out, bounded")
    server = redisq_start(persistence="aof", server_args=["maxmemory 10mb"])
    server.stop()
    stream: Stream = redisq.stream("events", maxlen=10)
    group: StreamGroup = redisq.stream("events", group="workers", max_deliveries=3)
    redisq.load("blpop-workers", seconds=1, consumers=2, faults=["pause:server@1s+1s"], engine="locust").verify()
    print(stream, group)


def scenario(world: World) -> None:
    one = world.actor(take, "jobs", name="one")
    two = world.actor(take_async)
    world.run()
    number: int = one.result
    texts: list[str] = two.result
    print(number, texts)


def test_explore(redisq: Redisq) -> None:
    redisq.explore(scenario, faults=["lost-reply", Fault("kill", target="one")], seconds=1, strategy="pos")
    redisq.explore(Orders, contract="at-least-once, live=5s", consumers=2, faults="restart:server").verify()
    redisq.replay(scenario, "AABB", max_steps=10)
    redisq.conformance(Orders, contract="at-most-once", workers=["thread"], faults=["drop:connections"])


TestOrders = conformance(Orders, contract="at-least-once", messages=10)
