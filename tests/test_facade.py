"""The `redisq` fixture, on a real server."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import redis

import pytest_redisq
from pytest_redisq import Redisq, RedisqError, queues
from pytest_redisq.errors import DeliveryError

pytestmark = pytest.mark.server


def test_client_url_and_key_lead_to_the_same_namespace(redisq: Redisq) -> None:
    redisq.client.set(redisq.key("greeting"), "hello")
    with redis.Redis.from_url(redisq.url) as other:
        assert other.get(redisq.key("greeting")) == b"hello"
        other.connection_pool.disconnect()
    assert redisq.new_client(decode_responses=True).get(redisq.key("greeting")) == "hello"


@pytest.mark.asyncio
async def test_the_asyncio_client_shares_the_namespace(redisq: Redisq) -> None:
    await redisq.async_client.set(redisq.key("greeting"), "hello")
    assert redisq.client.get(redisq.key("greeting")) == b"hello"
    assert redisq.async_client is redisq.async_client


def test_the_queues_are_the_supplied_ones_on_keys_of_this_namespace(redisq: Redisq) -> None:
    assert redisq.list("q", urgent=("u",)) == queues.BlockingList(redisq.key("q"), urgent=("u",))
    assert redisq.reliable_list("q", lease_seconds=3) == queues.ReliableList(redisq.key("q"), lease_seconds=3)
    assert redisq.stream("q", maxlen=9) == queues.Stream(redisq.key("q"), maxlen=9)
    assert redisq.stream("q", group="g") == queues.StreamGroup(redisq.key("q"), "g", claim_idle_seconds=1.0)


def test_a_right_queue_passes(redisq: Redisq) -> None:
    run = redisq.run(redisq.list("jobs"), producers=2, consumers=2, messages=200)
    assert run.verify("at-most-once").outcome == "pass"


def test_a_queue_that_drops_messages_is_caught(redisq: Redisq) -> None:
    """The saboteur: it drops every tenth message, although its producer gets an acknowledgement."""

    class Forgetful:
        def __init__(self) -> None:
            self.puts = 0

        def put(self, body: bytes) -> None:
            self.puts += 1
            if self.puts % 10:
                redisq.client.rpush("jobs", body)

        def get(self, timeout_seconds: float | None) -> bytes | None:
            popped = redisq.client.blpop(["jobs"], timeout_seconds)
            return popped[1] if popped else None

    run = redisq.run(Forgetful(), producers=1, consumers=1, messages=100)
    with pytest.raises(DeliveryError, match="10 lost"):
        run.verify("at-least-once")


def test_a_list_is_drained_in_chunks_and_to_a_file(redisq: Redisq, tmp_path: Path) -> None:
    redisq.client.rpush("jobs", *"abc")
    assert [list(chunk) for chunk in redisq.drain("jobs", chunk=2)] == [[b"a", b"b"], [b"c"]]
    redisq.client.rpush("jobs", *"de")
    redisq.drain_to_file("jobs", tmp_path / "jobs.txt")
    assert (tmp_path / "jobs.txt").read_text() == "d\ne\n"


def test_the_fault_constructors_make_plain_faults(redisq: Redisq) -> None:
    assert str(redisq.kill_consumer(after_messages=5)) == "kill:consumer@5"
    assert str(redisq.kill_consumer(after_messages=5, moment="holding")) == "kill-holding:consumer@5"
    assert str(redisq.kill_consumer(after_messages=5, replace=False)) == "kill:consumer@5+forever"
    assert str(redisq.drop_connections(at_seconds=2)) == "drop:connections@2s"
    assert str(redisq.kill_consumer(at_seconds=0.5)) == "kill:consumer@0.5s"
    assert str(redisq.drop_connections(after_messages=5)) == "drop:connections@5"
    with pytest.raises(
        ValueError, match=r"^moment='recieving' must be receiving or holding. Did you mean 'receiving'\?"
    ):
        redisq.kill_consumer(after_messages=5, moment="recieving")  # type: ignore[arg-type]


@pytest.mark.redisq_dedicated(persistence="aof")
def test_a_dedicated_server_may_be_killed_in_a_run(redisq: Redisq) -> None:
    """Messages from before the SIGKILL are there after it, and none is delivered twice."""
    run = redisq.run(redisq.list("jobs"), messages=200, faults=[redisq.kill_server(after_messages=50)])
    verdict = run.verify("at-most-once")
    assert verdict.counts["lost"] == 0
    assert [struck.words for struck in run.faults] == ["the server was killed", "the server was started again"]


def test_a_shared_server_may_not_be_struck(redisq: Redisq) -> None:
    """Other processes' tests would be hit by it."""
    with Redisq(server=redisq.server, namespace=redisq._namespace, shared=True) as shared:
        for strike in (
            lambda: shared.kill_server(after_messages=1),
            lambda: shared.restart_server(after_messages=1),
            lambda: shared.pause_server(after_messages=1, seconds=0.1),
            lambda: shared.run(shared.list("jobs"), faults="restart:server@1"),
            lambda: shared.load("drain", faults="kill:server@1s"),
        ):
            with pytest.raises(RedisqError, match=r"(?s)^\w+:server@\S+ would strike .* @pytest.mark.redisq_dedicated"):
                strike()


def test_it_shows_where_it_is(redisq: Redisq) -> None:
    assert repr(redisq) == f"<Redisq: a database of its own on {redisq.server.header()}>"


def test_an_unknown_attribute_is_an_error_with_the_nearest_name(redisq: Redisq) -> None:
    with pytest.raises(AttributeError, match=r"^redisq has no 'sever'. Did you mean 'server'\? It has: address, "):
        redisq.sever  # noqa: B018


def test_without_a_kit_of_the_plugin_it_says_where_there_is_one(redisq: Redisq) -> None:
    made = Redisq(server=redisq.server, namespace=redisq._namespace)
    with pytest.raises(RedisqError, match="use the redisq fixture, or "):
        made.conformance(redisq.list("jobs"), contract="at-most-once")


def test_the_package_exports_what_it_says() -> None:
    """Each name, lazily, from the module that it says."""
    for module, names in pytest_redisq._HOMES.items():
        for name in names:
            assert getattr(pytest_redisq, name) is getattr(importlib.import_module(f"pytest_redisq.{module}"), name)
    names = {name for names in pytest_redisq._HOMES.values() for name in names}
    assert sorted(names - {"conformance"}) == pytest_redisq.__all__
    with pytest.raises(AttributeError, match="no attribute 'Severs'"):
        pytest_redisq.Severs  # noqa: B018
