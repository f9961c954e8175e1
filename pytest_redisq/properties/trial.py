"""What the conformance kit tries: a queue, the contract that it is to keep, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from pytest_redisq.check import Contract
from pytest_redisq.endpoint.forms import Gets
from pytest_redisq.endpoint.jobs import ClientFactory, Work, Workers
from pytest_redisq.facade import Redisq
from pytest_redisq.faults import Fault
from pytest_redisq.properties.json_queue import json_texts
from pytest_redisq.properties.kit_bodies import ANY_BYTES, KitBodies
from pytest_redisq.properties.manual_worker import ManualWorker
from pytest_redisq.properties.stall_meter import StallMeter

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A queue, what it promises, and how to try it; see `conformance` for what the numbers mean."""

    queue: Any
    redisq: Redisq
    contract: Contract
    workers: str
    fault: Fault | None
    messages: int
    wait_seconds: float
    settle_seconds: float
    schedules: int = 25
    work: Work = 0.0
    bodies: KitBodies = ANY_BYTES
    client: ClientFactory | None = None
    gets: Gets = "client"

    @property
    def kind(self) -> Workers:
        """`workers`, for a run, whose cases name kinds that `conformance` has checked."""
        return cast(Workers, self.workers)

    @property
    def is_async(self) -> bool:
        return self.workers == "asyncio"

    @property
    def texts(self) -> Any:
        """The queue as one that takes any text: all bodies but those of `bodies` are texts."""
        return json_texts(self.queue, is_async=self.is_async) if self.bodies.is_json() else self.queue

    def hand(self, queue: Any = None) -> ManualWorker:
        return ManualWorker(
            self.texts if queue is None else queue,
            self.redisq.address,
            is_async=self.is_async,
            client=self.client,
            gets=self.gets,
        )

    def pulse(self) -> StallMeter:
        return StallMeter(self.redisq.address)

    @property
    def unordered(self) -> Contract:
        """The contract without its promise of order, which has a property of its own."""
        return replace(self.contract, fifo=False)
