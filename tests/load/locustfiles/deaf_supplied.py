"""Supplied scenarios whose first consumer, with DEAF=1, waits at another key once it has lost its connection.

SCENARIO: "list" or "stream".
"""

import os
from dataclasses import dataclass

from pytest_redisq.load.deliveries import GROUP, LIST
from pytest_redisq.load.engine.clients import LoadClient
from pytest_redisq.load.engine.consumer_clients import BlpopClient, XreadgroupClient
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.locust_run.users import users_of
from pytest_redisq.load.scenarios import BlpopWorkers, XaddGroup
from pytest_redisq.resp import encode_command


class _Deaf:
    """Once its connection was lost."""

    lost = False

    def connection_lost(self, at: int) -> None:
        super().connection_lost(at)  # type: ignore[misc]
        self.lost = True

    def request(self, now_ns: int) -> bytes:
        request: bytes = super().request(now_ns)  # type: ignore[misc]
        return encode_command(["BLPOP", "another", 0]) if self.lost else request


class DeafList(_Deaf, BlpopClient):
    pass


class DeafGroup(_Deaf, XreadgroupClient):
    pass


def deaf(index: int) -> bool:
    return index == 0 and bool(os.environ.get("DEAF"))


@dataclass(frozen=True, kw_only=True)
class List(BlpopWorkers):
    contract: str = "at-most-once, live=2s"
    consumers: int = 2

    def consumer(self, context: LoadContext, index: int) -> LoadClient:
        make = DeafList if deaf(index) else BlpopClient
        return make(context.delivery_buffer(LIST), (context.key("jobs:0"),), name="BLPOP jobs")


@dataclass(frozen=True, kw_only=True)
class Stream(XaddGroup):
    contract: str = "at-most-once, live=2s"
    consumers: int = 2

    def consumer(self, context: LoadContext, index: int) -> LoadClient:
        make = DeafGroup if deaf(index) else XreadgroupClient
        buffer = context.delivery_buffer(GROUP)
        return make(buffer, context.key("stream"), "group", f"consumer-{index}", name="XREADGROUP stream")


EngineUser, ProducerUser, ConsumerUser = users_of(List() if os.environ["SCENARIO"] == "list" else Stream())
