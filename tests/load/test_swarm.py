"""The loop that drives thousands of connections, in a thread of this process, on a real server."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from pytest_redisq.check import AnomalyKind, Contract
from pytest_redisq.load.actors import GroupReader, Inbox, Popper, Pusher, Repeater
from pytest_redisq.load.deliveries import GROUP, LIST
from pytest_redisq.load.desk import Desk
from pytest_redisq.load.histogram import Timings
from pytest_redisq.load.ledger import Ledger
from pytest_redisq.load.message import Codec
from pytest_redisq.load.plan import Plan
from pytest_redisq.load.swarm import KILLED, Swarm
from pytest_redisq.load.target import Target
from pytest_redisq.servers import Server, start
from tests.load.conftest import judge
from tests.support import eventually, local

ONCE = Contract.parse("effectively-once")


@dataclass
class Jobs:
    """Pushers and BLPOP workers at work on one list."""

    client: redis.Redis
    key: str
    swarm: Swarm
    ledger: Ledger
    inbox: Inbox
    pushers: list[Pusher]

    def blocked(self) -> int:
        return self.client.info("clients")["blocked_clients"]

    def stop(self) -> None:
        """As the stage does it."""
        self.swarm.stop_producing()
        eventually(lambda: not self.swarm.producing())
        eventually(lambda: self.client.llen(self.key) == 0)
        self.swarm.stop_consuming()
        eventually(self._unblocked, 20)

    def _unblocked(self) -> bool:
        for each in self.swarm.waiting():
            self.client.client_unblock(each)
        return not self.swarm.consuming()

    def books(self) -> Ledger:
        self.inbox.flush()
        for pusher in self.pushers:
            pusher.settle()
        return self.ledger


@contextlib.contextmanager
def jobs(server: Server, *, pushers: int, poppers: int, pause_ns: int = 0, url: str = "") -> Iterator[Jobs]:
    ledger, codec, key = Ledger(), Codec(7), "jobs"
    inbox = Inbox(ledger, codec, coverage=LIST)
    sending = [Pusher(ledger, codec, number, ("RPUSH", key), name="RPUSH jobs") for number in range(pushers)]
    taking = [Popper(inbox, (key,), name="BLPOP jobs") for _ in range(poppers)]
    due = (lambda index, turn: (turn * pushers + index) * pause_ns) if pause_ns else None
    swarm = Swarm(Target.of(url or server.url, "swarm-test"), [*taking, *sending], due=due, flush=inbox.flush)
    thread = threading.Thread(target=swarm.run)
    with server.client() as client:
        client.delete(key)
        thread.start()
        try:
            yield Jobs(client, key, swarm, ledger, inbox, sending)
        finally:
            swarm.close()
            thread.join()


def test_hundreds_of_workers_stop_in_the_middle_of_it_without_losing_one(server: Server) -> None:
    for _ in range(5):
        with jobs(server, pushers=5, poppers=300) as at_work:
            eventually(lambda work=at_work: work.pushers[0].sent > 20, 20)
            at_work.stop()
        verdict = judge(at_work.books(), ONCE)
        assert (verdict.outcome, verdict.counts[AnomalyKind.LOST]) == ("pass", 0)
        assert verdict.totals.delivered == sum(pusher.sent for pusher in at_work.pushers) > 20


def test_the_pace_counts_from_when_all_are_connected(server: Server) -> None:
    """Or what is late for our own connecting would be called the server's delay, and be caught up with in one burst."""
    ledger, codec, seen = Ledger(), Codec(7), []
    inbox = Inbox(ledger, codec, coverage=LIST)
    pusher = Pusher(ledger, codec, 0, ("RPUSH", "jobs"), name="RPUSH jobs")
    poppers = [Popper(inbox, ("jobs",), name="BLPOP jobs") for _ in range(500)]

    def due(_index: int, turn: int) -> int:
        seen.append(swarm.connect_seconds)
        return turn * 1_000_000

    swarm = Swarm(Target.of(server.url, "swarm-test"), [pusher, *poppers], due=due, flush=inbox.flush)
    with server.client() as client:
        client.delete("jobs")
        thread = threading.Thread(target=swarm.run)
        thread.start()
        at_work = Jobs(client, "jobs", swarm, ledger, inbox, [pusher])
        eventually(lambda: pusher.sent > 50)
        at_work.stop()
        thread.join()
    assert min(seen) > 0


def test_who_waits_for_all_to_be_connected_ends_when_told_to() -> None:
    crowded = start(local(server_args=("--maxclients", "3")))
    ledger, codec = Ledger(), Codec(7)
    pusher = Pusher(ledger, codec, 0, ("RPUSH", "jobs"), name="RPUSH jobs")
    poppers = [Popper(Inbox(ledger, codec, coverage=LIST), ("jobs",), name="BLPOP jobs") for _ in range(4)]
    swarm = Swarm(Target.of(crowded.url, "swarm-test"), [pusher, *poppers], due=lambda *_: 0)
    thread = threading.Thread(target=swarm.run)
    thread.start()
    eventually(lambda: swarm.connected >= 2)
    swarm.stop_producing()
    eventually(lambda: not swarm.producing())
    assert pusher.sent == 0
    swarm.close()
    thread.join()
    crowded.stop()


def test_closed_without_being_stopped_it_says_what_it_does_not_know(server: Server) -> None:
    """What was on its way is gone with the connections, and is called lost by nobody who cannot know."""
    with jobs(server, pushers=5, poppers=100) as at_work:
        eventually(lambda: at_work.pushers[0].sent > 20, 20)
    ledger = at_work.books()
    assert ledger.unknown_takes > 0
    assert 0 < len(ledger.unknown) <= 5
    assert judge(ledger, ONCE).counts[AnomalyKind.LOST] == 0


def test_a_connection_that_breaks_is_made_again(server: Server) -> None:
    with jobs(server, pushers=2, poppers=2) as at_work:
        eventually(lambda: at_work.pushers[0].sent > 20, 20)
        for each in at_work.client.client_list():
            if each["name"] == "swarm-test":
                at_work.client.client_kill_filter(_id=each["id"])
        before = at_work.pushers[0].sent
        eventually(lambda: at_work.pushers[0].sent > before + 20, 20)
        at_work.stop()
    verdict = judge(at_work.books(), ONCE)
    assert verdict.counts[AnomalyKind.LOST] == 0
    assert sum(batch.errors.total() for batch in at_work.swarm.batches) == 4


def test_a_pace_is_kept(server: Server) -> None:
    with jobs(server, pushers=4, poppers=1, pause_ns=10_000_000) as at_work:
        eventually(lambda: at_work.pushers[3].sent >= 10, 20)
        at_work.stop()
    assert [abs(pusher.sent - at_work.pushers[0].sent) <= 1 for pusher in at_work.pushers] == [True] * 4
    timings = Timings.empty()
    for batch in at_work.swarm.batches:
        if batch.name == "RPUSH jobs":
            batch.book(timings)
    assert timings.response.count == timings.service.count == sum(pusher.sent for pusher in at_work.pushers)


def test_requests_larger_than_a_socket_takes_are_sent_whole(server: Server) -> None:
    ledger, codec = Ledger(), Codec(7, 4_000_000)
    inbox = Inbox(ledger, codec, coverage=LIST)
    actors = [Pusher(ledger, codec, 0, ("RPUSH", "big"), name="RPUSH"), Popper(inbox, ("big",), name="BLPOP")]
    swarm = Swarm(Target.of(server.url, "big"), actors, flush=inbox.flush)
    thread = threading.Thread(target=swarm.run)
    thread.start()
    eventually(lambda: inbox.received >= 5, 20)
    swarm.close()
    thread.join()
    assert ledger.corrupted == 0


def test_workers_killed_with_a_message_unread_take_it_with_them_and_break_the_contract(server: Server) -> None:
    with jobs(server, pushers=2, poppers=5) as at_work:
        eventually(lambda: at_work.inbox.received >= 100)
        at_work.swarm.kill_consumers()
        eventually(lambda: killed(at_work.swarm) == 5)
        received = at_work.inbox.received
        eventually(lambda: at_work.inbox.received >= received + 100)  # others have taken their places
        at_work.stop()
        verdict = judge(at_work.books(), ONCE)
    assert verdict.outcome == "fail"
    assert {kind: times for kind, times in verdict.counts.items() if times} == {AnomalyKind.INDETERMINATE: 5}
    assert judge(at_work.ledger, Contract.parse("at-most-once")).outcome == "pass"


def test_consumers_of_a_group_killed_likewise_lose_nothing(server: Server) -> None:
    """What they had been given is pending, and whoever takes their place reads it first."""
    ledger, codec = Ledger(), Codec(7)
    inbox = Inbox(ledger, codec, coverage=GROUP)
    pushers = [Pusher(ledger, codec, number, ("XADD", "stream", "*", "b"), name="XADD") for number in range(2)]
    readers = [GroupReader(inbox, "stream", "group", f"reader-{n}", name="XREADGROUP") for n in range(3)]
    swarm = Swarm(Target.of(server.url, "group"), [*pushers, *readers], flush=inbox.flush)
    thread = threading.Thread(target=swarm.run)
    with server.client() as client:
        client.xgroup_create("stream", "group", id="0", mkstream=True)
        thread.start()
        eventually(lambda: inbox.received >= 100)
        swarm.kill_consumers()
        eventually(lambda: killed(swarm) == 3)
        swarm.stop_producing()
        eventually(lambda: not swarm.producing())
        eventually(lambda: inbox.received >= sum(pusher.sent for pusher in pushers), 30)
        swarm.close()
        thread.join()
        client.delete("stream")
    inbox.settle()
    for pusher in pushers:
        pusher.settle()
    verdict = judge(ledger, Contract.parse("at-least-once"))
    assert verdict.outcome == "pass"


def killed(swarm: Swarm) -> int:
    return sum(batch.errors[KILLED] for batch in list(swarm.batches))


def test_a_server_that_cannot_be_reached_is_an_error_told_and_no_end(server: Server) -> None:
    swarm = Swarm(Target.of("redis://127.0.0.1:1/0", "none"), [Repeater(("PING",), name="PING")])
    thread = threading.Thread(target=swarm.run)
    thread.start()
    eventually(lambda: swarm.batches)
    swarm.stop_producing()
    thread.join()
    assert "Connection refused" in swarm.batches[0].errors
    assert server.info()


def test_tls_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="use --engine users"):
        Target.of("rediss://localhost:6379/0", "tls")


def test_an_error_reply_fails_its_message_for_certain(server: Server) -> None:
    plan = Plan(
        run="7", url=server.url, engine="swarm", worker=0, producers=1, consumers=0, first_producer=0,
        first_consumer=0, all_producers=1, payload_bytes=20, pipeline=3, rate="",
    )  # fmt: skip
    desk = Desk(plan)
    with server.client() as client:
        client.set("wrong", b"x")
        swarm = Swarm(Target.of(server.url, "wrong"), [desk.pusher(0, ("RPUSH", "wrong"), name="RPUSH wrong")])
        thread = threading.Thread(target=swarm.run)
        thread.start()
        eventually(lambda: desk.sent() > 10)
        swarm.stop_producing()
        thread.join()
    verdict = judge(desk.settle(), ONCE)
    assert verdict.totals.failed == verdict.totals.attempted == desk.sent()
    assert verdict.totals.acknowledged == 0
