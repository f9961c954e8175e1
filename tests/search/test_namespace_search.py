"""A search of a real server: every type of key, what the server says of what lies there, bounds and ageing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pytest_redisq.model import Message, encode_body
from pytest_redisq.search import NamespaceSearch, SearchLimits, marked_messages
from pytest_redisq.servers import Address, Server, start
from tests.support import local

RUN = "7f3a"
WANTED = [Message(0, number) for number in range(8)]
BODIES = [encode_body(RUN, message, b"p") for message in WANTED]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = start(local())
    yield server
    server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        yield client


def search_of(server: Server, prefix: str = "", **limits: float) -> NamespaceSearch:
    address = Address(url=server.url, prefix=prefix)
    return NamespaceSearch(address, marked_messages(RUN), SearchLimits(**limits))  # type: ignore[arg-type]


#: By the type of a key: how a message gets into a key of that name, and where it then lies.
PLACES: dict[str, Callable[[redis.Redis, str, bytes], object]] = {
    "list": lambda client, key, body: client.rpush(key, body),
    "set": lambda client, key, body: client.sadd(key, body),
    "zset": lambda client, key, body: client.zadd(key, {body: 3}),
    "hash": lambda client, key, body: client.hset(key, "job", body),
    "string": lambda client, key, body: client.set(key, body),
    "stream": lambda client, key, body: client.xadd(key, {"body": body}),
}


@pytest.mark.parametrize("filler", [0, 3_000], ids=["small", "large"])
@pytest.mark.parametrize("kind", sorted(PLACES))
def test_each_type_of_key_is_searched(server: Server, client: redis.Redis, kind: str, filler: int) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(filler if kind != "string" else 0):
            other = encode_body("another", Message(0, number), b"f" * 40)
            match kind:
                case "zset":
                    pipeline.zadd("jobs:a", {other: number})
                case "hash":
                    pipeline.hset("jobs:a", str(number), other)
                case _:
                    PLACES[kind](pipeline, "jobs:a", other)
        pipeline.execute()
    PLACES[kind](client, "jobs:a", BODIES[0] + b"x" * filler * 40 if kind == "string" else BODIES[0])
    result = search_of(server).search(WANTED)
    assert [(place.key, place.type, place.messages) for place in result.places] == [("jobs:a", kind, (WANTED[0],))]
    assert (set(result.found), set(result.pending), result.gap) == ({WANTED[0]}, set(), "")
    assert bool(result.inside) is (kind != "stream")


def test_what_the_groups_of_a_stream_have_done_is_told(server: Server, client: redis.Redis) -> None:
    ids = [client.xadd("s", {"body": body}) for body in BODIES[:4]]
    client.xgroup_create("s", "g", "0")
    client.xreadgroup("g", "c1", {"s": ">"}, count=3)
    client.xack("s", "g", ids[0], ids[1])
    client.xclaim("s", "g", "c2", 0, [ids[2]], idle=120_000)
    result = search_of(server).search(WANTED[1:])
    assert {place.messages: place.state for place in result.places} == {
        (WANTED[1],): "where group g has no more to do with it: acknowledged, or read with NOACK",
        (WANTED[2],): "pending to consumer c2 of group g for 2 min",
        (WANTED[3],): "which group g has not read so far",
    }
    assert (set(result.pending), set(result.waiting)) == ({WANTED[2]}, {WANTED[3]})


def test_a_message_that_is_due_later_says_when(server: Server, client: redis.Redis) -> None:
    now = time.time()
    client.zadd("seconds", {BODIES[0]: now + 1_740})
    client.zadd("milliseconds", {BODIES[1]: (now - 5) * 1_000})
    client.set("life", BODIES[2], ex=40)
    result = search_of(server).search(WANTED)
    assert [str(place) for place in result.places] == [
        "the string life, which expires in 40 s",
        "the zset milliseconds, which was due",
        "the zset seconds, due in 29 min",
    ]
    assert result.due.keys() == {WANTED[0]}
    assert 1_700 < result.due[WANTED[0]] <= 1_740


def test_only_keys_below_the_prefix_are_searched(server: Server, client: redis.Redis) -> None:
    client.rpush("redisq:a:jobs", BODIES[0])
    client.rpush("redisq:b:jobs", BODIES[1])
    result = search_of(server, prefix="redisq:a:").search(WANTED)
    assert [(place.key, place.messages) for place in result.places] == [("jobs", (WANTED[0],))]


@pytest.mark.parametrize(
    ("limits", "gap"),
    [
        ({"keys": 600}, "it stopped after its limit of 600 keys"),
        ({"bytes": 9_000}, "it stopped after its limit of 9,000 bytes, in "),
        ({"seconds": 0}, "it stopped after its limit of 0 s, in "),
    ],
)
def test_a_bound_that_is_met_is_told(server: Server, client: redis.Redis, limits: dict[str, Any], gap: str) -> None:
    client.mset({f"key:{number}": b"x" * 20 for number in range(2_000)})
    assert search_of(server, **limits).search(WANTED).gap.startswith(gap)


def test_a_server_that_does_not_answer_is_told(server: Server) -> None:
    nowhere = Address(url="redis://127.0.0.1:1/0")
    result = NamespaceSearch(nowhere, marked_messages(RUN)).search(WANTED)
    assert result.gap.startswith("it was ended by the server: ")
    server.pause()
    try:
        assert search_of(server, seconds=0.05).search(WANTED).gap.startswith("it was ended by the server: ")
    finally:
        server.resume()


def test_when_time_passes_leases_end_and_the_messages_found_stay(server: Server, client: redis.Redis) -> None:
    now = time.time()
    client.set("jobs:body", BODIES[0], ex=60)
    client.set("lock", b"worker", ex=60)
    client.set("long", b"worker", ex=7_200)
    client.set("good until", BODIES[2], ex=86_400)
    client.set("deadline", str(int(now + 60)))
    client.hset("leases", mapping={"a": str(int((now + 60) * 1_000)), "count": "12"})
    client.zadd("running", {b"id": now + 60, b"priority": 5})
    client.xgroup_create("s", "g", mkstream=True)
    client.xadd("s", {"body": BODIES[1]})
    client.xreadgroup("g", "c1", {"s": ">"})
    search = search_of(server)
    search.let_leases_pass(search.search(WANTED))
    assert client.get("jobs:body") == BODIES[0]
    assert client.get("lock") is None
    assert client.get("long") is None
    assert client.ttl("good until") > 86_000
    assert now - 7_200 < float(client.get("deadline") or 0) < now - 7_000
    assert float(client.hget("leases", "a") or 0) < (now - 7_000) * 1_000
    assert client.hget("leases", "count") == b"12"
    assert (client.zscore("running", b"id") or 0) < now - 7_000
    assert client.zscore("running", b"priority") == 5
    reply: Any = client.xpending_range("s", "g", "-", "+", 9)
    (pending,) = reply
    assert pending["time_since_delivered"] >= 86_400_000
    assert pending["times_delivered"] == 1


def test_an_entry_that_no_group_has_finished_is_found_among_those_pending(server: Server, client: redis.Redis) -> None:
    client.rpush("jobs", BODIES[0])
    for body in BODIES[1:4]:
        client.xadd("orders", {"body": body})
    for group in ("billing", "audit"):
        client.xgroup_create("orders", group, "0")
    read: Any = client.xreadgroup("audit", "a", {"orders": ">"}, count=3)
    client.xreadgroup("billing", "b", {"orders": ">"}, count=2)
    first, second, third = (entry_id for entry_id, _ in read[0][1])
    client.xack("orders", "audit", first)
    client.xack("orders", "billing", second)
    result = search_of(server).search_pending(WANTED)
    assert result.pending == {WANTED[3]}
    assert str(result.places[0]).startswith("the stream orders, pending to consumer a of group audit")
    client.xack("orders", "audit", third)
    assert not search_of(server).search_pending(WANTED).places
