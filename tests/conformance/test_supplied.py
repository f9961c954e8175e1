"""The supplied queues, held to the contracts that their documentation names."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_redisq.properties import conformance
from pytest_redisq.queues import BlockingList, ReliableList, Stream, StreamGroup

pytestmark = pytest.mark.server

# Ten schedules: tests/explore/test_queue_scenario.py explores the same queues with more.
hold = partial(conformance, messages=150, settle_seconds=0.8, schedules=10)

TestBlockingList = hold(BlockingList("jobs"), contract="at-most-once, fifo", workers=("thread", "fork"))
TestReliableList = hold(
    ReliableList("jobs", lease_seconds=0.2), contract="at-least-once, fifo", workers=("process", "asyncio")
)
TestStreamGroup = hold(
    StreamGroup("orders", "billing", claim_idle_seconds=0.2, max_deliveries=50),
    contract="effectively-once, fifo",
    workers=("thread", "process", "asyncio"),
)
TestStream = hold(Stream("events"), contract="fan-out, fifo", workers=("thread", "process", "asyncio"))
