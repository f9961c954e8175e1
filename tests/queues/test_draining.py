"""A drain takes what was there when it began, each element once, and survives its death, a rival and a lost reply."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pytest_redisq.errors import RedisqError
from pytest_redisq.queues import drain, drain_async
from pytest_redisq.queues.connection import QueueConnection, recommend_hiredis
from pytest_redisq.queues.draining import Drainer, pop
from pytest_redisq.queues.steps import RedisCommand, Steps, run
from pytest_redisq.servers import Server


@pytest.fixture
def wire(client: redis.Redis) -> Iterator[QueueConnection]:
    with contextlib.closing(QueueConnection(client)) as wire:
        yield wire


def fill(client: redis.Redis, count: int, key: str = "big", start: int = 0) -> list[bytes]:
    elements = [b"%d" % number for number in range(start, start + count)]
    for first in range(0, count, 1000):
        client.rpush(key, *elements[first : first + 1000])
    return elements


def all_of(chunks: Iterator[list[bytes]]) -> list[bytes]:
    return [element for chunk in chunks for element in chunk]


@pytest.mark.parametrize("guarantee", ["at-least-once", "at-most-once"])
class TestUnderEitherGuarantee:
    @pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1000])
    def test_yields_everything_in_order_in_chunks_and_leaves_no_key(
        self, client: redis.Redis, guarantee: Any, count: int
    ) -> None:
        elements = fill(client, count)
        chunks = list(drain(client, "big", chunk=100, guarantee=guarantee))
        assert [element for chunk in chunks for element in chunk] == elements
        assert all(len(chunk) == 100 for chunk in chunks[:-1])
        assert list(client.scan_iter()) == []

    def test_what_is_pushed_meanwhile_stays(self, client: redis.Redis, guarantee: Any) -> None:
        elements = fill(client, 1000)
        got = []
        for chunk in drain(client, "big", chunk=100, guarantee=guarantee):
            client.rpush("big", "later")
            got += chunk
        assert got == elements
        assert client.lrange("big", 0, -1) == [b"later"] * 10

    def test_two_drainers_share_without_a_double(
        self, client: redis.Redis, guarantee: Any, in_thread: Callable[..., Any]
    ) -> None:
        elements = fill(client, 20_000)
        together = threading.Barrier(2)

        def one() -> list[bytes]:
            together.wait()
            return all_of(drain(client, "big", chunk=50, guarantee=guarantee))

        first, second = in_thread(one), in_thread(one)
        assert sorted(first.result() + second.result()) == sorted(elements)

    def test_a_key_of_another_type_is_told(self, client: redis.Redis, guarantee: Any) -> None:
        client.hset("big", "field", "value")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            next(drain(client, "big", guarantee=guarantee))
        assert client.hgetall("big") == {b"field": b"value"}


def test_the_storys_loop_loses_and_doubles_with_two_drainers(client: redis.Redis) -> None:
    """LLEN, LRANGE, LTRIM: what the drain above is safe from."""
    fill(client, 10)
    counts = [client.llen("big") for _ in "ab"]
    read = [client.lrange("big", 0, 4) for _ in "ab"]
    for _ in counts:
        client.ltrim("big", 5, -1)
    assert read[0] == read[1], "doubled"
    assert client.llen("big") == 0, "and the other five lost"


def test_a_drainer_killed_between_reading_and_trimming_loses_nothing(
    client: redis.Redis, child: Callable[[str], subprocess.Popen[str]]
) -> None:
    """At most the current chunk comes twice."""
    elements = fill(client, 1000)
    victim = child(
        "for number, chunk in enumerate(drain(client, 'big', chunk=100, lease_seconds=0.2)):\n"
        "    print(number, flush=True)\n"
        "    if number == 3: import signal; signal.pause()\n"
    )
    assert victim.stdout is not None
    assert [victim.stdout.readline() for _ in range(4)] == ["0\n", "1\n", "2\n", "3\n"]
    client.rpush("big", "later")
    victim.kill()
    victim.wait()
    expire_leases(client)
    assert all_of(drain(client, "big", chunk=100)) == [*elements[300:], b"later"]
    assert list(client.scan_iter()) == []


def test_breaking_off_leaves_the_rest_to_the_next_drain_at_once(client: redis.Redis) -> None:
    elements = fill(client, 300)
    chunks = drain(client, "big", chunk=100)
    assert [next(chunks), next(chunks)] == [elements[:100], elements[100:200]]
    chunks.close()
    assert all_of(drain(client, "big")) == elements[100:]


def test_a_drainer_that_was_too_slow_is_told_that_another_took_over(client: redis.Redis) -> None:
    elements = fill(client, 300)
    slow = drain(client, "big", chunk=100)
    assert next(slow) == elements[:100]
    expire_leases(client)
    assert all_of(drain(client, "big", chunk=100)) == elements
    with pytest.raises(RedisqError, match="another drainer has taken over the claim on 'big'"):
        next(slow)


def test_a_living_drainers_claim_is_left_alone(client: redis.Redis) -> None:
    elements = fill(client, 300)
    first = drain(client, "big", chunk=100)
    got = next(first)
    assert all_of(drain(client, "big")) == []
    assert got + all_of(first) == elements


def test_an_expiring_list_does_not_expire_in_our_hands(client: redis.Redis, wire: QueueConnection) -> None:
    fill(client, 10)
    client.expire("big", 1000)
    drainer = Drainer("big", chunk=5, lease_seconds=60)
    claim = run(drainer.claim(), wire.call)
    assert claim is not None
    assert client.ttl(drainer.list_of(claim.name)) == -1


@pytest.mark.parametrize("lost_call", range(1, 16))
def test_any_lost_reply_is_asked_for_again_and_nothing_happens_twice(
    client: redis.Redis, wire: QueueConnection, lost_call: int
) -> None:
    """The reply to the n-th command gets lost after the server has carried it out."""
    elements = fill(client, 250)
    calls = 0

    def lossy(step: RedisCommand) -> Any:
        nonlocal calls
        calls += 1
        reply = wire.call(step)
        if calls == lost_call:
            raise redis.ConnectionError("Connection closed by server.")
        return reply

    assert _drained(Drainer("big", chunk=100, lease_seconds=60), lambda steps: run(steps, lossy)) == elements
    assert list(client.scan_iter()) == []


def test_servers_without_a_counting_lpop_are_served_by_a_script(client: redis.Redis, wire: QueueConnection) -> None:
    elements = fill(client, 10)
    popped = [run(pop("big", 4, pops), wire.call) for pops in (False, True, False, False)]
    assert popped == [elements[:4], elements[4:8], elements[8:], []]


def test_large_elements_make_short_chunks(client: redis.Redis) -> None:
    for _ in range(40):
        client.rpush("big", bytes(2**18))
    assert max(map(len, drain(client, "big"))) <= 4


def test_large_elements_make_short_chunks_of_what_is_popped_too(client: redis.Redis) -> None:
    for _ in range(40):
        client.rpush("big", bytes(2**18))
    assert max(map(len, drain(client, "big", guarantee="at-most-once"))) <= 4


@pytest.mark.parametrize("guarantee", ["at-least-once", "at-most-once"])
def test_memory_stays_flat_whatever_the_length(client: redis.Redis, guarantee: Any) -> None:
    """A list twenty times as long takes no more memory here, nor on the server beyond the list itself."""

    def peak(count: int) -> tuple[int, int]:
        fill(client, count)
        held = int(client.info("memory")["used_memory"])
        highest = held
        tracemalloc.start()
        for number, _ in enumerate(drain(client, "big", chunk=1000, guarantee=guarantee)):
            if number % 20 == 0:
                highest = max(highest, int(client.info("memory")["used_memory"]))
        ours = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return ours, highest - held

    peak(1000)
    ours_short, _ = peak(10_000)
    ours_long, server_extra = peak(200_000)
    assert ours_long < 1.5 * ours_short
    assert server_extra < 2**20


def test_a_missing_hiredis_is_said_once_and_aloud(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    recommend_hiredis.cache_clear()
    for _ in "ab":
        all_of(drain(client, "big"))
    [record] = caplog.records
    assert "pip install 'pytest-redisq[fast]'" in record.getMessage()
    assert record.levelname == "WARNING"


def test_async_drain(server: Server, client: redis.Redis) -> None:
    elements = fill(client, 250)

    async def use(**options: Any) -> list[bytes]:
        async with server.async_client() as asyncio_client:
            return [e async for chunk in drain_async(asyncio_client, "big", chunk=100, **options) for e in chunk]

    assert asyncio.run(use()) == elements
    fill(client, 250)
    assert asyncio.run(use(guarantee="at-most-once")) == elements


def test_async_drain_has_the_next_chunk_under_way_while_one_is_dealt_with(server: Server, client: redis.Redis) -> None:
    elements = fill(client, 1_000)

    def asked() -> int:
        return client.info("commandstats").get("cmdstat_lrange", {}).get("calls", 0)

    async def use() -> list[bytes]:
        got: list[bytes] = []
        async with server.async_client() as asyncio_client:
            async for chunk in drain_async(asyncio_client, "big", chunk=100):
                got += chunk
                async with asyncio.timeout(30):
                    while asked() <= len(got) // 100 < 10:
                        await asyncio.sleep(0.001)
        return got

    client.config_resetstat()
    assert asyncio.run(use()) == elements
    assert list(client.scan_iter()) == []


def test_async_drain_of_which_the_connection_breaks_at_any_chunk_costs_and_doubles_nothing(
    server: Server, client: redis.Redis
) -> None:
    elements = fill(client, 1_000)

    async def use() -> list[bytes]:
        got: list[bytes] = []
        async with server.async_client() as asyncio_client:
            async for chunk in drain_async(asyncio_client, "big", chunk=100):
                got += chunk
                client.client_kill_filter(_type="normal", skipme=True)
                await asyncio.sleep(0)
        return got

    assert asyncio.run(use()) == elements
    assert list(client.scan_iter()) == []


def test_async_drain_released_on_breaking_off(server: Server, client: redis.Redis) -> None:
    elements = fill(client, 250)

    async def use() -> None:
        async with (
            server.async_client() as asyncio_client,
            contextlib.aclosing(drain_async(asyncio_client, "big", chunk=100)) as chunks,
        ):
            assert await anext(chunks) == elements[:100]

    asyncio.run(use())
    assert all_of(drain(client, "big")) == elements


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"chunk": 0}, "chunk=0 must be at least 1"),
        ({"lease_seconds": 0}, "lease_seconds=0 must be at least 0.01"),
        ({"guarantee": "exactly-once"}, 'guarantee=\'exactly-once\' must be "at-least-once" or "at-most-once"'),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_call(client: redis.Redis, wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        drain(client, "big", **wrong)


def _drained(drainer: Drainer, carry_out: Callable[[Steps[Any]], Any]) -> list[bytes]:
    got = []
    while (claim := carry_out(drainer.next_claim())) is not None:
        while elements := carry_out(drainer.read(claim)):
            got += elements
            carry_out(drainer.commit(claim, len(elements)))
    return got


def expire_leases(client: redis.Redis) -> None:
    """Let a lease's time pass, without waiting for it."""
    for key in client.keys("big:drain-lease:*"):
        client.delete(key)
