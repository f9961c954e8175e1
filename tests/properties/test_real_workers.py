"""Bursts between real threads, tasks and processes, in any order: no message is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.facade import Redisq
from pytest_redisq.queues import Stream, StreamGroup
from pytest_redisq.runner import Bursts

pytestmark = pytest.mark.server

#: Each example starts up to eight workers.
FEW = settings(max_examples=max(3, settings().max_examples // 20))
KINDS = ["thread", "asyncio", pytest.param("process", marks=pytest.mark.slow)]
GROUP = StreamGroup("s", "g", claim_idle_seconds=60.0)

numbers = {
    "producers": st.integers(1, 4),
    "consumers": st.integers(1, 4),
    "burst": st.integers(1, 30),
    "messages": st.integers(4, 120),
}


def run(redisq: Redisq, queue: Any, kind: str, producers: int, consumers: int, burst: int, messages: int) -> Any:
    pace = Bursts(size=burst, every_seconds=0.005)
    sizes: Any = {"producers": min(producers, messages), "consumers": consumers, "messages": messages}
    return redisq.run(queue, workers=kind, pace=pace, wait_seconds=0.05, **sizes)


@pytest.mark.parametrize("kind", KINDS)
@given(**numbers)
@FEW
def test_every_reader_gets_every_entry(
    redisq_session: Redisq, kind: str, producers: int, consumers: int, burst: int, messages: int
) -> None:
    with redisq_session.example() as redisq:
        verdict = run(redisq, Stream("s"), kind, producers, consumers, burst, messages).verify("fan-out, fifo")
        assert verdict.totals.delivered == messages * consumers


@pytest.mark.parametrize("kind", KINDS)
@given(**numbers)
@FEW
def test_a_group_shares_them_and_the_server_says_so_too(
    redisq_session: Redisq, kind: str, producers: int, consumers: int, burst: int, messages: int
) -> None:
    with redisq_session.example() as redisq:
        verdict = run(redisq, GROUP, kind, producers, consumers, burst, messages).verify("effectively-once")
        assert (verdict.totals.delivered, verdict.totals.acked) == (messages, messages)
        (group,) = redisq.client.xinfo_groups("s")  # type: ignore[misc]
        info: Any = redisq.client.xinfo_stream("s")
        assert (group["pending"], info["length"]) == (0, messages)
        assert group["last-delivered-id"] == info["last-generated-id"]
