"""The effect of each fault on a real run; correct queues survive it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from pytest_redisq.errors import DeliveryError
from pytest_redisq.faults import Fault
from pytest_redisq.model import Kind, Outcome
from pytest_redisq.queues import BlockingList, ReliableList, StreamGroup
from pytest_redisq.runner import Rate, Run, run
from pytest_redisq.runner.fault_injector import FaultInjector
from pytest_redisq.servers import Server, start
from tests.runner import sample_queues as queues
from tests.support import local

SLOW_FORK = pytest.param("fork", marks=pytest.mark.slow)
WORKERS = ["thread", "asyncio", "fork", "spawn", "pool"]
RELIABLE = [ReliableList("jobs", lease_seconds=0.3), StreamGroup("jobs", group="workers", claim_idle_seconds=1.0)]


@pytest.fixture
def server() -> Iterator[Server]:
    """One that may be killed: it has what was written after a restart, too."""
    server = start(local(persistence="aof"))
    yield server
    server.stop()


def run_with_death(queue: Any, server: Server, workers: Any, fault: str = "kill:consumer@20", **options: Any) -> Run:
    """One of two consumers dies."""
    return run(queue, at=server, consumers=2, messages=60, workers=workers, faults=[fault], **options)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("moment", ["receiving", "holding"])
def test_reliable_queues_survive_the_death_of_a_consumer(server: Server, workers: Any, moment: Any) -> None:
    done = run(
        RELIABLE[0],
        at=server,
        producers=2,
        consumers=2,
        messages=60,
        workers=workers,
        pace=Rate(100),  # so that the consumer that is to die gets one more, however slow the machine is
        faults=["kill:consumer@20" if moment == "receiving" else "kill-holding:consumer@20"],
    )
    verdict = done.verify("at-least-once")
    assert f"was to die {moment} its next message" in done.faults[0].words
    # Its last op never ended where it died receiving; where it held the message, the message came again.
    unended = [op for op in done.history if op.kind is Kind.DEQUEUE and op.outcome is Outcome.INFO]
    assert len(unended) == (1 if moment == "receiving" else 0)
    assert verdict.totals.delivered == (60 if moment == "receiving" else 61)
    actors = {op.actor for op in done.history}
    assert "consumer-2" in actors, "its replacement"


@pytest.mark.parametrize("workers", ["thread", "fork"])
def test_a_stream_group_survives_the_death_of_a_consumer(server: Server, workers: Any) -> None:
    faults = ["kill:consumer@20", "kill-holding:consumer@30"]
    done = run(RELIABLE[1], at=server, consumers=3, messages=60, workers=workers, faults=faults)
    done.verify("effectively-once")


@pytest.mark.parametrize("workers", WORKERS)
def test_a_blocking_list_loses_what_a_dead_consumer_had_received(server: Server, workers: Any) -> None:
    done = run_with_death(BlockingList("jobs"), server, workers)
    done.verify("at-most-once")
    with pytest.raises(DeliveryError, match="indeterminate"):
        done.verify("at-least-once")


@pytest.mark.parametrize("workers", ["thread", "fork"])
def test_what_was_acknowledged_before_the_work_is_forgotten(server: Server, workers: Any) -> None:
    done = run_with_death(queues.Hasty, server, workers, "kill-holding:consumer@20")
    done.verify("at-most-once")
    with pytest.raises(DeliveryError, match="1 forgotten"):
        done.verify("at-least-once")


@pytest.mark.parametrize("workers", ["thread", "fork"])
def test_a_processing_list_that_nobody_recovers_is_stuck(server: Server, workers: Any) -> None:
    done = run_with_death(queues.Forgetful, server, workers, settle_seconds=0.1)
    with pytest.raises(DeliveryError, match="stuck"):
        done.verify("at-least-once")


@pytest.mark.parametrize("workers", ["thread", SLOW_FORK])
def test_a_processing_list_that_has_a_supervisor_loses_nothing(server: Server, workers: Any) -> None:
    done = run_with_death(queues.Reliable, server, workers)
    done.verify("at-least-once")


@pytest.mark.parametrize("workers", ["thread", "asyncio", SLOW_FORK])
def test_what_the_last_consumer_leaves_is_drained(server: Server, workers: Any) -> None:
    """No consumer is left, yet what is in the queue is not lost: the run gets it out by itself."""
    done = run(
        RELIABLE[0],
        at=server,
        messages=1_000,
        workers=workers,
        faults=["kill:consumer@5+forever"],
    )
    done.verify("at-least-once")
    drained = [op for op in done.history if op.kind is Kind.DRAIN and op.messages]
    assert {op.actor for op in drained} == {"drain"}
    assert 1 <= len(drained) <= 995, "it may have received more before its order reached it"


def test_a_consumer_with_no_more_messages_dies_all_the_same(server: Server) -> None:
    faults = ["kill-holding:consumer@29"]
    done = run(BlockingList("jobs"), at=server, consumers=1, messages=30, pace=Rate(300), faults=faults)
    assert "consumer-0 was to die" in done.faults[0].words
    assert "consumer-1" in {op.actor for op in done.history}


@pytest.mark.parametrize(
    "fault",
    [
        "restart:server@30",
        "kill:server@30+0.1s",
        "pause:server@30+0.2s",
        "drop:connections@30",
    ],
)
@pytest.mark.parametrize("workers", ["thread", "asyncio", "fork"])
def test_a_reliable_list_survives_what_happens_to_the_server(server: Server, fault: str, workers: Any) -> None:
    if fault.startswith("kill:server"):
        server.config("appendfsync", "always")
    done = run(
        RELIABLE[0],
        at=server,
        producers=2,
        consumers=2,
        messages=100,
        workers=workers,
        pace=Rate(500),
        faults=[fault],
    )
    done.verify("at-least-once")
    assert done.faults


class Behind:
    """A queue whose consumer begins when a hundred messages wait, so that there is something to be lost."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.begun = False

    def put(self, body: bytes) -> None:
        self.client.rpush("jobs", body)

    def get(self, _timeout_seconds: float) -> Any:
        self.begun = self.begun or self.client.llen("jobs") >= 100
        return self.client.lpop("jobs") if self.begun else None

    def remaining(self) -> Any:
        return self.client.lrange("jobs", 0, -1)

    def pending(self) -> list[bytes]:
        return []


def test_a_server_without_persistence_loses_what_it_held(server: Server) -> None:
    server.config("appendonly", "no")
    server.config("save", "")
    done = run(Behind, at=server, producers=4, messages=1000, faults=["kill:server@1"])
    with pytest.raises(DeliveryError, match="lost"):
        done.verify("at-least-once")


def test_only_the_workers_connections_are_dropped(server: Server) -> None:
    with server.client(client_name="bystander") as bystander:
        bystander.ping()
        before = bystander.client_id()
        done = run(BlockingList("jobs"), at=server, messages=50, faults=["drop:connections@10"])
        assert bystander.client_id() == before
    assert "connections of workers were closed" in done.faults[0].words
    assert not done.faults[0].words.startswith("0 ")


def test_the_history_tells_of_faults(server: Server) -> None:
    done = run(BlockingList("jobs"), at=server, messages=50, faults=["drop:connections@10"])
    (fault,) = done.history.faults
    assert fault.struck
    assert f"drop:connections@10 ({fault.words})" in str(done.verdict("at-most-once"))
    assert "connections of workers were closed by the server" in fault.words


def test_the_victim_is_chosen_by_the_seed(server: Server) -> None:
    def victim(seed: int) -> str:
        faults = ["kill:consumer@10"]
        done = run(RELIABLE[0], at=server, consumers=4, messages=40, seed=seed, faults=faults)
        return done.faults[0].words

    assert victim(1) == victim(1)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("kill:consumer@100", "would never strike: it must come after fewer messages than messages=100"),
        ("kill:server", "run cannot do kill:server: it does not say when. Add @500 for: after 500 messages."),
    ],
)
def test_a_fault_that_cannot_strike_is_refused(server: Server, fault: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run(BlockingList("jobs"), at=server, messages=100, faults=[fault])


def test_a_server_fault_needs_a_server_of_our_own(server: Server) -> None:
    with pytest.raises(ValueError, match="needs a server that redisq started"):
        run(BlockingList("jobs"), at=server.url, messages=10, faults=["restart:server@1"])


def test_what_is_no_fault_is_refused(server: Server) -> None:
    with pytest.raises(TypeError, match="7 is not a fault: give a Fault, or NAME"):
        run(BlockingList("jobs"), at=server, faults=[7])  # type: ignore[list-item]


def test_an_executor_cannot_lose_a_process(server: Server) -> None:
    with pytest.raises(ValueError, match='workers="executor" breaks as a whole'):
        run(BlockingList("jobs"), at=server, workers="executor", faults=["kill:consumer@1"])


def test_a_fault_that_never_struck_is_told() -> None:
    class FaultTarget:
        def received(self) -> int:
            return 3

    site: Any = FaultTarget()
    interpreter = FaultInjector([Fault.parse("drop:connections@5")], site)
    interpreter.step()
    (missed,) = interpreter.missed()
    assert missed.void == "drop:connections@5 never struck: 3 messages were received"
