"""Consumer groups: each entry is delivered until it is acknowledged or parked, also if consumers die."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pytest_redisq.queues import BoundQueue, Stopped, StreamGroup
from pytest_redisq.queues.connection import QueueConnection
from pytest_redisq.queues.steps import RedisCommand, run
from pytest_redisq.queues.stream_group import StreamGroupEndpoint
from pytest_redisq.servers import Server
from tests.support import eventually

ORDERS = StreamGroup("orders", "billing", claim_idle_seconds=0.3)


def body_of(worker: BoundQueue, timeout_seconds: float | None = 5.0) -> bytes | None:
    delivery = worker.get(timeout_seconds)
    return None if delivery is None else delivery.body


def age(client: redis.Redis, consumer: str) -> None:
    """Let the idle time of all that `consumer` holds pass, without waiting for it."""
    for entry in client.xpending_range("orders", "billing", "-", "+", 100, consumer):
        client.xclaim("orders", "billing", consumer, 0, [entry["message_id"]], idle=600_000, justid=True)


def test_an_entry_stays_pending_until_it_is_acknowledged(client: redis.Redis) -> None:
    with ORDERS.bind(client) as worker:
        ids = [worker.put(b"a"), worker.put(b"b")]
        order = worker.get(1)
        assert order is not None
        assert (order.body, order.id, order.delivery_count, order.source) == (b"a", ids[0], 1, "orders")
        assert (worker.remaining(), worker.pending()) == ([b"b"], [b"a"])
        assert worker.ack(order)
        assert not worker.ack(order)
        assert (worker.remaining(), worker.pending()) == ([b"b"], [])


def test_what_was_added_before_the_group_was_made_is_worked_on(client: redis.Redis) -> None:
    client.xadd("orders", {"body": "early"})
    with ORDERS.bind(client) as worker:
        assert body_of(worker) == b"early"
    with StreamGroup("orders", "late", start="$").bind(client) as worker:
        assert worker.get(0) is None


def test_consumers_share_the_entries_and_all_stop(client: redis.Redis, in_thread: Callable[..., Any]) -> None:
    def work(worker: BoundQueue) -> list[bytes]:
        done = []
        while True:
            try:
                order = worker.get()
            except Stopped:
                return done
            assert order is not None
            worker.ack(order)
            done.append(order.body)

    workers = [ORDERS.bind(client) for _ in range(4)]
    results = [in_thread(work, worker) for worker in workers]
    bodies = [b"%d" % number for number in range(200)]
    for body in bodies:
        workers[0].put(body)
    eventually(lambda: not workers[0].remaining() and not workers[0].pending())
    for worker in workers:
        worker.stop()
    assert sorted(body for result in results for body in result.result()) == sorted(bodies)
    for worker in workers:
        worker.close()


def test_a_killed_consumers_entry_is_claimed_while_the_stream_is_idle(
    client: redis.Redis, child: Callable[[str], subprocess.Popen[str]]
) -> None:
    with ORDERS.bind(client) as worker:
        worker.put(b"precious")
        victim = child(
            "worker = StreamGroup('orders', 'billing', claim_idle_seconds=0.3).bind(client)\n"
            "print(worker.get().body.decode()); import signal; signal.pause()"
        )
        assert victim.stdout is not None
        assert victim.stdout.readline() == "precious\n"
        victim.kill()
        order = worker.get(5)
        assert order is not None
        assert (order.body, order.delivery_count) == (b"precious", 2)


def test_a_living_consumer_is_not_robbed_however_long_its_work_takes(client: redis.Redis) -> None:
    with ORDERS.bind(client) as busy, ORDERS.bind(client) as idle:
        busy.put(b"long")
        order = busy.get(1)
        assert order is not None
        assert idle.get(1.0) is None
        assert client.xpending_range("orders", "billing", "-", "+", 1)[0]["times_delivered"] == 1
        assert busy.ack(order)


def test_a_consumer_that_comes_back_under_its_name_reads_its_own_again_first(client: redis.Redis) -> None:
    wire = QueueConnection(client)
    patient = StreamGroup("orders", "billing", claim_idle_seconds=600, max_deliveries=2)
    for number in range(250):
        client.xadd("orders", {"body": number})
    client.xgroup_create("orders", "billing", 0)
    client.xreadgroup("billing", "w1", {"orders": ">"}, count=249)
    worker = StreamGroupEndpoint(patient, "w1")
    got = [run(worker.get(0), wire.call) for _ in range(251)]
    assert [d.body for d in got if d] == [b"%d" % number for number in range(250)]
    assert [d.delivery_count for d in got if d] == [2] * 249 + [1]
    wire.close()


def test_a_lost_reply_leaves_nothing_stuck(client: redis.Redis) -> None:
    wire = QueueConnection(client)
    worker = StreamGroupEndpoint(ORDERS, "unlucky")
    for body in (b"a", b"b"):
        run(worker.put(body), wire.call)

    def lossy(step: RedisCommand) -> Any:
        reply = wire.call(step)
        if step.args[-1] == ">":
            raise redis.ConnectionError("Connection closed by server.")
        return reply

    with pytest.raises(redis.ConnectionError):
        run(worker.get(0), lossy)
    got = [run(worker.get(0), wire.call) for _ in range(3)]
    assert [None if d is None else (d.body, d.delivery_count) for d in got] == [(b"a", 2), (b"b", 1), None]
    wire.close()


def test_poison_is_parked_after_so_many_deliveries(client: redis.Redis) -> None:
    """From the pending list to the dead letters in one step, with its fields."""
    orders = StreamGroup("orders", "billing", claim_idle_seconds=600, max_deliveries=3)
    wire = QueueConnection(client)
    entry_id = client.xadd("orders", {"body": "poison", "kind": "bad"}).decode()
    counts = []
    for number in range(3):
        worker = StreamGroupEndpoint(orders, f"w{number}")
        delivery = run(worker.get(0), wire.call)
        assert delivery is not None
        counts.append(delivery.delivery_count)
        age(client, f"w{number}")
    last = StreamGroupEndpoint(orders, "w3")
    assert run(last.get(0), wire.call) is None
    assert counts == [1, 2, 3]
    assert run(last.pending(), wire.call) == []
    [(_, fields)] = client.xrange("orders:dead:{orders}")
    assert fields == {
        b"parked_id": entry_id.encode(),
        b"parked_deliveries": b"3",
        b"body": b"poison",
        b"kind": b"bad",
    }
    wire.close()


def test_a_pending_entry_that_was_trimmed_is_reported_and_not_stuck(client: redis.Redis) -> None:
    wire = QueueConnection(client)
    client.xadd("orders", {"body": "gone"}, id="1-1")
    client.xadd("orders", {"body": "there"}, id="1-2")
    dead = StreamGroupEndpoint(ORDERS, "dead")
    for _ in range(2):
        run(dead.get(0), wire.call)
    age(client, "dead")
    client.xtrim("orders", maxlen=1, approximate=False)
    with ORDERS.bind(client) as worker:
        assert body_of(worker) == b"there"
        assert [(gap.after_id, gap.entries) for gap in worker.trimmed()] == [("1-1", 1)]
        assert worker.pending() == [b"there"]
    wire.close()


def test_what_is_given_back_is_claimed_when_its_idle_time_is_over(client: redis.Redis) -> None:
    with ORDERS.bind(client) as worker:
        worker.put(b"again")
        order = worker.get(1)
        assert order is not None
        worker.give_back(order)
        again = worker.get(5)
        assert again is not None
        assert (again.body, again.delivery_count) == (b"again", 2)


def test_closing_keeps_a_consumer_for_which_something_is_pending(client: redis.Redis) -> None:
    """XGROUP DELCONSUMER would throw its pending entries away."""
    with ORDERS.bind(client, "clean") as clean, ORDERS.bind(client, "holding") as holding:
        clean.put(b"a")
        clean.put(b"b")
        first, second = clean.get(1), holding.get(1)
        assert first is not None
        assert second is not None
        clean.ack(first)
    assert [consumer["name"] for consumer in client.xinfo_consumers("orders", "billing")] == [b"holding"]
    with ORDERS.bind(client) as heir:
        assert body_of(heir) == b"b"


def test_a_group_that_was_destroyed_is_told_once_and_made_anew(client: redis.Redis) -> None:
    with ORDERS.bind(client) as worker:
        worker.subscribe()
        client.flushall()
        with pytest.raises(redis.ResponseError, match="NOGROUP"):
            worker.get(0)
        worker.put(b"a")
        assert body_of(worker) == b"a"


def test_async_consumers(server: Server, client: redis.Redis) -> None:
    async def use() -> None:
        async with server.async_client() as one, ORDERS.bind(one) as busy, ORDERS.bind(one) as idle:
            await busy.put(b"long")
            order = await busy.get(1)
            assert order is not None
            assert await idle.get(1.0) is None
            assert await busy.ack(order)

    asyncio.run(use())
    assert client.xpending("orders", "billing")["pending"] == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"claim_idle_seconds": 0}, "claim_idle_seconds=0 must be at least 0.03"),
        ({"max_deliveries": 0}, "must be at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StreamGroup("orders", "billing", **wrong)
