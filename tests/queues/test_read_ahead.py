"""Chunks that are asked for before they are wanted: in order, each once, whatever breaks, and the wire beneath them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import redis

from pytest_redisq.errors import RedisqError
from pytest_redisq.queues.connection import QueueConnection
from pytest_redisq.queues.draining import Claim, Drainer
from pytest_redisq.queues.read_ahead import ReadAhead
from pytest_redisq.queues.steps import command, run
from tests.queues.test_draining import expire_leases, fill


@pytest.fixture
def wire(client: redis.Redis) -> Iterator[QueueConnection]:
    with contextlib.closing(QueueConnection(client)) as wire:
        yield wire


def claimed(wire: QueueConnection, *, chunk: int = 100) -> tuple[Drainer, Claim]:
    drainer = Drainer("big", chunk=chunk, lease_seconds=60)
    claim = run(drainer.claim(), wire.call)
    assert claim is not None
    return drainer, claim


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("broken_at", range(8))
def test_a_connection_that_breaks_at_any_chunk_costs_and_doubles_nothing(
    client: redis.Redis, wire: QueueConnection, together: int, broken_at: int
) -> None:
    """Broken after the n-th chunk has come, and once more before it is committed."""
    elements, got = fill(client, 1_050), []
    drainer, claim = claimed(wire)
    ahead, uncommitted, number = ReadAhead(drainer, claim, wire), 0, 0
    while chunk := ahead.read():
        got += chunk
        uncommitted += len(chunk)
        if number in (broken_at, broken_at + 1):
            client.client_kill_filter(_id=wire.client_id)
        number += 1
        if number % together == 0:
            ahead.commit(uncommitted)
            uncommitted = 0
    ahead.commit(uncommitted)
    assert got == elements
    assert list(client.scan_iter()) == []


def test_chunks_are_on_their_way_while_one_is_dealt_with(client: redis.Redis, wire: QueueConnection) -> None:
    fill(client, 1_000)
    drainer, claim = claimed(wire)
    ahead = ReadAhead(drainer, claim, wire)
    client.config_resetstat()
    assert len(ahead.read()) == 100
    client.ping()  # answered after what came before it
    assert client.info("commandstats")["cmdstat_lrange"]["calls"] == 2
    ahead.commit(100)
    client.ping()
    assert client.info("commandstats")["cmdstat_lrange"]["calls"] >= 3


def test_a_script_that_the_server_forgot_is_sent_again(client: redis.Redis, wire: QueueConnection) -> None:
    elements, got = fill(client, 500), []
    drainer, claim = claimed(wire)
    ahead = ReadAhead(drainer, claim, wire)
    while chunk := ahead.read():
        got += chunk
        client.script_flush()
        ahead.commit(len(chunk))
    assert got == elements


def test_a_claim_that_another_has_taken_over_is_told_at_the_commit(client: redis.Redis, wire: QueueConnection) -> None:
    fill(client, 500)
    drainer, claim = claimed(wire)
    ahead = ReadAhead(drainer, claim, wire)
    ahead.read()
    expire_leases(client)
    with contextlib.closing(QueueConnection(client)) as other:
        assert run(Drainer("big", chunk=100, lease_seconds=60).next_claim(), other.call) is not None
    with pytest.raises(RedisqError, match="another drainer has taken over"):
        ahead.commit(100)


def test_replies_are_read_in_any_order_and_calls_come_in_between(wire: QueueConnection) -> None:
    one, two = wire.send(command("ECHO", "one")), wire.send(command("ECHO", "two"))
    wrong = wire.send(command("LPUSH", "too few"))
    assert wire.call(command("ECHO", "three")) == b"three"
    assert [wire.receive(two), wire.receive(one)] == [b"two", b"one"]
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        wire.receive(wrong)


def test_what_was_sent_on_a_connection_that_broke_has_an_unknown_outcome(
    client: redis.Redis, wire: QueueConnection
) -> None:
    ticket = wire.send(command("ECHO", "one"))
    client.client_kill_filter(_id=wire.client_id)
    with contextlib.suppress(redis.ConnectionError):
        wire.call(command("ECHO", "two"))
    assert wire.call(command("ECHO", "three")) == b"three"
    with pytest.raises(redis.ConnectionError, match="the outcome is unknown"):
        wire.receive(ticket)
