"""Correct queues pass and wrong ones are caught, whatever the workers are."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

import pytest
import redis

from pytest_redisq.check import AnomalyKind
from pytest_redisq.endpoint.jobs import WORKERS
from pytest_redisq.errors import DeliveryError
from pytest_redisq.model import Kind, Message, Outcome
from pytest_redisq.queues import BlockingList, ReliableList, Stream, StreamGroup
from pytest_redisq.runner import Command, Rate, Summary, run
from pytest_redisq.servers import Server
from tests.runner import sample_queues as queues

SYNC = [workers for workers in WORKERS if workers != "asyncio"]
#: Workers that cost little, for what does not depend on their kind.
QUICK = ["thread", "fork"]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_supplied_queue_loses_nothing(server: Server, workers: Any) -> None:
    done = run(BlockingList("jobs"), at=server, producers=2, consumers=2, messages=201, workers=workers)
    verdict = done.verify("at-most-once")
    done.verify("at-least-once")
    assert verdict.totals.acknowledged == verdict.totals.delivered == 201
    assert {op.actor for op in done.history} == {"producer-0", "producer-1", "consumer-0", "consumer-1"}


@pytest.mark.parametrize("workers", ["thread", "asyncio", "fork"])
@pytest.mark.parametrize(
    ("queue", "contract"),
    [
        (ReliableList("jobs"), "at-least-once"),
        (StreamGroup("jobs", group="workers"), "effectively-once"),
        (Stream("jobs"), "fan-out"),
    ],
    ids=["reliable list", "stream group", "stream"],
)
def test_every_supplied_queue_keeps_its_promise(server: Server, queue: Any, contract: str, workers: Any) -> None:
    done = run(queue, at=server, producers=2, consumers=2, messages=100, workers=workers)
    verdict = done.verify(contract)
    assert verdict.totals.delivered == (200 if contract == "fan-out" else 100)


@pytest.mark.parametrize("workers", SYNC)
def test_a_factory_of_queues(server: Server, workers: Any) -> None:
    run(queues.Plain, at=server, messages=50, workers=workers).verify("at-least-once")


def test_a_factory_of_async_queues(server: Server) -> None:
    done = run(queues.AsyncPlain, at=server, producers=2, consumers=2, messages=50, workers="asyncio")
    done.verify("at-least-once")


def test_tasks_work_while_a_loop_is_running(server: Server) -> None:
    """As in a test that is a coroutine function itself, of pytest-asyncio or anyio."""

    async def test() -> None:
        queue = ReliableList("jobs", lease_seconds=1)
        run(queue, at=server, messages=50, workers="asyncio").verify("at-least-once")

    asyncio.run(test())


@pytest.mark.parametrize("workers", SYNC)
def test_a_pair_of_plain_functions(server: Server, workers: Any) -> None:
    pair = (queues.produce, queues.consume)
    run(pair, at=server, messages=50, workers=workers).verify("at-least-once")


def test_a_pair_of_coroutine_functions(server: Server) -> None:
    pair = (queues.produce_async, queues.consume_async)
    run(pair, at=server, producers=2, consumers=2, messages=50, workers="asyncio").verify("at-least-once")


@pytest.mark.parametrize("workers", QUICK)
def test_one_object_for_all_workers(server: Server, workers: Any) -> None:
    shared = queues.Shared(server.url)
    try:
        run(shared, at=server, producers=2, consumers=2, messages=50, workers=workers).verify("at-least-once")
    finally:
        shared.free()


def test_commands_take_part(server: Server) -> None:
    argv = [sys.executable, queues.__file__]
    pair = (Command([*argv, "produce", "{url}"]), Command([*argv, "consume", "{url}"]))
    done = run(pair, at=server, producers=2, consumers=2, messages=40)
    assert done.verify("at-least-once").totals.delivered == 40


def test_commands_and_processes_meet(server: Server) -> None:
    pair = (queues.produce, Command([sys.executable, queues.__file__, "consume", "{url}"]))
    run(pair, at=server, producers=2, consumers=1, messages=40, workers="fork").verify("at-least-once")


@pytest.mark.parametrize("workers", QUICK)
@pytest.mark.parametrize(
    ("saboteur", "contract", "anomaly"),
    [
        (queues.Dropping, "at-least-once", "lost"),
        (queues.Doubling, "at-most-once", "duplicated"),
        (queues.Inventing, "at-least-once", "corrupted"),
    ],
)
def test_saboteurs_are_caught(server: Server, saboteur: Any, contract: str, anomaly: str, workers: Any) -> None:
    done = run(saboteur, at=server, producers=2, consumers=2, messages=200, workers=workers)
    assert done.verdict(contract).counts[AnomalyKind(anomaly)] == 2
    with pytest.raises(DeliveryError, match=anomaly):
        done.verify(contract)


def test_a_stack_is_no_queue(server: Server) -> None:
    # While the consumer is at work on one message, others are put.
    done = run(queues.LastInFirstOut, at=server, messages=40, work=0.01)
    with pytest.raises(DeliveryError, match="reordered"):
        done.verify("at-least-once, fifo")


def test_what_the_server_refuses_has_certainly_failed(server: Server) -> None:
    done = run(queues.Refused, at=server, messages=20)
    outcomes = [op.outcome for op in done.history if op.kind is Kind.ENQUEUE]
    assert outcomes.count(Outcome.FAIL) == outcomes.count(Outcome.OK) == 10
    done.verify("at-least-once")


def test_every_message_is_sent_once_by_its_producer(server: Server) -> None:
    done = run(BlockingList("jobs"), at=server, producers=3, consumers=1, messages=10)
    sent = sorted(message for op in done.history if op.kind is Kind.ENQUEUE for message in op.messages)
    assert sent == [Message(0, n) for n in range(4)] + [Message(1, n) for n in range(3)] + [
        Message(2, n) for n in range(3)
    ]


def test_payloads_travel_along(server: Server) -> None:
    done = run(BlockingList("jobs"), at=server, messages=5, payload=lambda message: str(message).encode() * 1000)
    done.verify("at-least-once")


def test_a_rate_is_kept(server: Server) -> None:
    done = run(BlockingList("jobs"), at=server, producers=2, messages=20, pace=Rate(100))
    starts = sorted(op.invoked_ns for op in done.history if op.kind is Kind.ENQUEUE)
    assert starts[-1] - starts[0] >= 0.18e9 * 0.98


def test_figures(server: Server) -> None:
    figures = run(BlockingList("jobs"), at=server, producers=2, messages=100).summary
    assert (figures.acknowledged, figures.delivered) == (100, 100)
    assert 0 < figures.put_p50_seconds <= figures.put_p99_seconds
    assert 0 < figures.latency_p50_seconds <= figures.latency_p99_seconds <= figures.seconds
    assert figures.messages_per_second == pytest.approx(100 / figures.seconds)


@pytest.mark.parametrize("workers", [workers for workers in SYNC if workers != "thread"])
def test_records_of_worker_processes_arrive_here(
    server: Server, workers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="tests.talkative")
    run(Talkative, at=server, producers=2, messages=10, workers=workers)
    told = [record for record in caplog.records if record.name == "tests.talkative"]
    assert len(told) == 10
    assert {vars(record)["worker"] for record in told} == {"producer-0", "producer-1"}
    assert all(record.process != os.getpid() for record in told)


class Talkative(queues.Plain):
    def put(self, body: bytes) -> None:
        logging.getLogger("tests.talkative").info("put %d bytes", len(body))
        super().put(body)


@pytest.mark.parametrize(
    ("shares", "fairness"),
    [({"a": 50, "b": 50}, 1.0), ({"a": 100, "b": 0}, 0.5), ({"a": 3, "b": 1}, 0.8), ({"a": 0}, 0.0), ({}, 0.0)],
)
def test_fairness_is_one_where_all_got_as_many(shares: dict[str, int], fairness: float) -> None:
    figures = dict.fromkeys(("acknowledged", "delivered"), 0) | {"seconds": 0.0, "messages_per_second": 0.0}
    figures |= {f"{what}_p{part}_seconds": 0.0 for what in ("put", "latency") for part in (50, 99)}
    assert Summary(**figures, shares=shares).fairness == fairness  # type: ignore[arg-type]


def test_a_run_tells_how_the_jobs_were_shared(server: Server) -> None:
    """A consumer that got none counts, too."""
    done = run(BlockingList("jobs"), at=server, producers=2, consumers=3, messages=90, pace=Rate(per_second=3_000))
    summary = done.summary
    assert set(summary.shares) == {"consumer-0", "consumer-1", "consumer-2"}
    assert sum(summary.shares.values()) == 90
    assert f"shared by 3, fairness {summary.fairness:.2f}" in str(summary)
    assert 1 / 3 <= summary.fairness <= 1


class OfUrl(queues.Plain):
    """A queue on a client that it makes itself."""

    def __init__(self, url: str) -> None:
        super().__init__(redis.Redis.from_url(url))

    def close(self) -> None:
        self.client.close()


def test_a_queue_of_a_url_is_run(server: Server) -> None:
    run(OfUrl, at=server, messages=20, gets="url").verify("at-least-once")
