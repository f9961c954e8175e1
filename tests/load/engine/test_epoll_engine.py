"""The loop that drives thousands of connections, in a thread of this process, on a real server."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from pytest_redisq.check import AnomalyKind, Contract
from pytest_redisq.load.codec import BodyCodec
from pytest_redisq.load.deliveries import GROUP, LIST
from pytest_redisq.load.engine.assignment import Assignment
from pytest_redisq.load.engine.clients import PushClient, RepeatingClient
from pytest_redisq.load.engine.consumer_clients import BlpopClient, XreadgroupClient
from pytest_redisq.load.engine.delivery_buffer import DeliveryBuffer
from pytest_redisq.load.engine.epoll_engine import KILLED, EpollEngine
from pytest_redisq.load.engine.load_context import LoadContext
from pytest_redisq.load.engine.target import Target
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.results.histogram import Timings
from pytest_redisq.servers import Server, start
from tests.load.conftest import judge
from tests.support import eventually, local

ONCE = Contract.parse("effectively-once")


@dataclass
class Jobs:
    """Pushers and BLPOP workers at work on one list."""

    client: redis.Redis
    key: str
    engine: EpollEngine
    ledger: Ledger
    buffer: DeliveryBuffer
    push_clients: list[PushClient]

    def blocked(self) -> int:
        return self.client.info("clients")["blocked_clients"]

    def stop(self) -> None:
        """As the Locust worker does it."""
        self.engine.stop_producing()
        eventually(lambda: not self.engine.producing())
        eventually(lambda: self.client.llen(self.key) == 0)
        self.engine.stop_consuming()
        eventually(self._unblocked, 20)

    def _unblocked(self) -> bool:
        for each in self.engine.waiting():
            self.client.client_unblock(each)
        return not self.engine.consuming()

    def books(self) -> Ledger:
        self.buffer.flush()
        for push_client in self.push_clients:
            push_client.settle()
        return self.ledger


@contextlib.contextmanager
def jobs(server: Server, *, push_clients: int, blpop_clients: int, pause_ns: int = 0, url: str = "") -> Iterator[Jobs]:
    ledger, codec, key = Ledger(), BodyCodec(7), "jobs"
    buffer = DeliveryBuffer(ledger, codec, coverage=LIST)
    sending = [PushClient(ledger, codec, number, ("RPUSH", key), name="RPUSH jobs") for number in range(push_clients)]
    taking = [BlpopClient(buffer, (key,), name="BLPOP jobs") for _ in range(blpop_clients)]
    due = (lambda index, turn: (turn * push_clients + index) * pause_ns) if pause_ns else None
    engine = EpollEngine(Target.of(url or server.url, "engine-test"), [*taking, *sending], due=due, flush=buffer.flush)
    thread = threading.Thread(target=engine.run)
    with server.client() as client:
        client.delete(key)
        thread.start()
        try:
            yield Jobs(client, key, engine, ledger, buffer, sending)
        finally:
            engine.close()
            thread.join()


def test_hundreds_of_workers_stop_in_the_middle_of_it_without_losing_one(server: Server) -> None:
    for _ in range(5):
        with jobs(server, push_clients=5, blpop_clients=300) as at_work:
            eventually(lambda work=at_work: work.push_clients[0].sent > 20, 20)
            at_work.stop()
        verdict = judge(at_work.books(), ONCE)
        assert (verdict.outcome, verdict.counts[AnomalyKind.LOST]) == ("pass", 0)
        assert verdict.totals.delivered == sum(push_client.sent for push_client in at_work.push_clients) > 20


def test_the_pace_counts_from_when_all_are_connected(server: Server) -> None:
    """Or what is late for our own connecting would be called the server's delay, and be caught up with in one burst."""
    ledger, codec, seen = Ledger(), BodyCodec(7), []
    buffer = DeliveryBuffer(ledger, codec, coverage=LIST)
    push_client = PushClient(ledger, codec, 0, ("RPUSH", "jobs"), name="RPUSH jobs")
    blpop_clients = [BlpopClient(buffer, ("jobs",), name="BLPOP jobs") for _ in range(500)]

    def due(_index: int, turn: int) -> int:
        seen.append(engine.connect_seconds)
        return turn * 1_000_000

    engine = EpollEngine(
        Target.of(server.url, "engine-test"), [push_client, *blpop_clients], due=due, flush=buffer.flush
    )
    with server.client() as client:
        client.delete("jobs")
        thread = threading.Thread(target=engine.run)
        thread.start()
        at_work = Jobs(client, "jobs", engine, ledger, buffer, [push_client])
        eventually(lambda: push_client.sent > 50)
        at_work.stop()
        thread.join()
    assert min(seen) > 0


def test_who_waits_for_all_to_be_connected_ends_when_told_to() -> None:
    crowded = start(local(server_args=("--maxclients", "3")))
    ledger, codec = Ledger(), BodyCodec(7)
    push_client = PushClient(ledger, codec, 0, ("RPUSH", "jobs"), name="RPUSH jobs")
    blpop_clients = [
        BlpopClient(DeliveryBuffer(ledger, codec, coverage=LIST), ("jobs",), name="BLPOP jobs") for _ in range(4)
    ]
    engine = EpollEngine(Target.of(crowded.url, "engine-test"), [push_client, *blpop_clients], due=lambda *_: 0)
    thread = threading.Thread(target=engine.run)
    thread.start()
    eventually(lambda: engine.connected >= 2)
    engine.stop_producing()
    eventually(lambda: not engine.producing())
    assert push_client.sent == 0
    engine.close()
    thread.join()
    crowded.stop()


def test_closed_without_being_stopped_it_says_what_it_does_not_know(server: Server) -> None:
    """Messages in transit are gone with the connections, and are indeterminate, not lost."""
    with jobs(server, push_clients=5, blpop_clients=100) as at_work:
        eventually(lambda: at_work.push_clients[0].sent > 20, 20)
    ledger = at_work.books()
    assert ledger.unknown_takes > 0
    assert 0 < len(ledger.unknown) <= 5
    assert judge(ledger, ONCE).counts[AnomalyKind.LOST] == 0


def test_a_connection_that_breaks_is_made_again(server: Server) -> None:
    with jobs(server, push_clients=2, blpop_clients=2) as at_work:
        eventually(lambda: at_work.push_clients[0].sent > 20, 20)
        for each in at_work.client.client_list():
            if each["name"] == "engine-test":
                at_work.client.client_kill_filter(_id=each["id"])
        before = at_work.push_clients[0].sent
        eventually(lambda: at_work.push_clients[0].sent > before + 20, 20)
        at_work.stop()
    verdict = judge(at_work.books(), ONCE)
    assert verdict.counts[AnomalyKind.LOST] == 0
    assert sum(batch.errors.total() for batch in at_work.engine.batches) == 4


def test_a_pace_is_kept(server: Server) -> None:
    with jobs(server, push_clients=4, blpop_clients=1, pause_ns=10_000_000) as at_work:
        eventually(lambda: at_work.push_clients[3].sent >= 10, 20)
        at_work.stop()
    assert [abs(push_client.sent - at_work.push_clients[0].sent) <= 1 for push_client in at_work.push_clients] == [
        True
    ] * 4
    timings = Timings.empty()
    for batch in at_work.engine.batches:
        if batch.name == "RPUSH jobs":
            batch.add_to(timings)
    assert (
        timings.response.count == timings.service.count == sum(push_client.sent for push_client in at_work.push_clients)
    )


def test_requests_larger_than_a_socket_takes_are_sent_whole(server: Server) -> None:
    ledger, codec = Ledger(), BodyCodec(7, 4_000_000)
    buffer = DeliveryBuffer(ledger, codec, coverage=LIST)
    clients = [
        PushClient(ledger, codec, 0, ("RPUSH", "big"), name="RPUSH"),
        BlpopClient(buffer, ("big",), name="BLPOP"),
    ]
    engine = EpollEngine(Target.of(server.url, "big"), clients, flush=buffer.flush)
    thread = threading.Thread(target=engine.run)
    thread.start()
    eventually(lambda: buffer.received >= 5, 20)
    engine.close()
    thread.join()
    assert ledger.corrupted == 0


def test_workers_killed_with_a_message_unread_take_it_with_them_and_break_the_contract(server: Server) -> None:
    with jobs(server, push_clients=2, blpop_clients=5) as at_work:
        eventually(lambda: at_work.buffer.received >= 100)
        at_work.engine.kill_consumers()
        eventually(lambda: killed(at_work.engine) == 5)
        received = at_work.buffer.received
        eventually(lambda: at_work.buffer.received >= received + 100)  # others have taken their places
        at_work.stop()
        verdict = judge(at_work.books(), ONCE)
    assert verdict.outcome == "fail"
    assert {kind: times for kind, times in verdict.counts.items() if times} == {AnomalyKind.INDETERMINATE: 5}
    assert judge(at_work.ledger, Contract.parse("at-most-once")).outcome == "pass"


def test_consumers_of_a_group_killed_likewise_lose_nothing(server: Server) -> None:
    """The entries that they had received are pending, and their replacements read them first."""
    ledger, codec = Ledger(), BodyCodec(7)
    buffer = DeliveryBuffer(ledger, codec, coverage=GROUP)
    push_clients = [PushClient(ledger, codec, number, ("XADD", "stream", "*", "b"), name="XADD") for number in range(2)]
    readers = [XreadgroupClient(buffer, "stream", "group", f"reader-{n}", name="XREADGROUP") for n in range(3)]
    engine = EpollEngine(Target.of(server.url, "group"), [*push_clients, *readers], flush=buffer.flush)
    thread = threading.Thread(target=engine.run)
    with server.client() as client:
        client.xgroup_create("stream", "group", id="0", mkstream=True)
        thread.start()
        eventually(lambda: buffer.received >= 100)
        engine.kill_consumers()
        eventually(lambda: killed(engine) == 3)
        engine.stop_producing()
        eventually(lambda: not engine.producing())
        eventually(lambda: buffer.received >= sum(push_client.sent for push_client in push_clients), 30)
        engine.close()
        thread.join()
        client.delete("stream")
    buffer.settle()
    for push_client in push_clients:
        push_client.settle()
    verdict = judge(ledger, Contract.parse("at-least-once"))
    assert verdict.outcome == "pass"


def killed(engine: EpollEngine) -> int:
    return sum(batch.errors[KILLED] for batch in list(engine.batches))


def test_a_server_that_cannot_be_reached_is_an_error_told_and_no_end(server: Server) -> None:
    engine = EpollEngine(Target.of("redis://127.0.0.1:1/0", "none"), [RepeatingClient(("PING",), name="PING")])
    thread = threading.Thread(target=engine.run)
    thread.start()
    eventually(lambda: engine.batches)
    engine.stop_producing()
    thread.join()
    assert "Connection refused" in engine.batches[0].errors
    assert server.info()


def test_tls_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="use --engine locust"):
        Target.of("rediss://localhost:6379/0", "tls")


def test_an_error_reply_fails_its_message_for_certain(server: Server) -> None:
    assignment = Assignment(
        run="7", url=server.url, engine="epoll", worker=0, producers=1, consumers=0, first_producer=0,
        first_consumer=0, all_producers=1, payload_bytes=20, pipeline=3, rate="",
    )  # fmt: skip
    context = LoadContext(assignment)
    with server.client() as client:
        client.set("wrong", b"x")
        engine = EpollEngine(
            Target.of(server.url, "wrong"), [context.push_client(0, ("RPUSH", "wrong"), name="RPUSH wrong")]
        )
        thread = threading.Thread(target=engine.run)
        thread.start()
        eventually(lambda: context.sent() > 10)
        engine.stop_producing()
        thread.join()
    verdict = judge(context.settle(), ONCE)
    assert verdict.totals.failed == verdict.totals.attempted == context.sent()
    assert verdict.totals.acknowledged == 0
