"""XREAD readers: all entries after the starting point, once, in order; trimmed entries are reported."""

from __future__ import annotations

import asyncio
import queue
import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pytest_redisq.queues import BoundQueue, Gap, Stopped, Stream
from pytest_redisq.servers import Server

EVENTS = Stream("events")


def bodies(reader: BoundQueue, count: int) -> list[bytes]:
    """The next `count` bodies."""
    got = [reader.get(5) for _ in range(count)]
    return [delivery.body for delivery in got if delivery is not None]


def burst(client: redis.Redis, count: int) -> None:
    """Entries added in one step, whose ids share a millisecond."""
    with client.pipeline(transaction=True) as together:
        for number in range(count):
            together.xadd("events", {"body": number})
        together.execute()


def test_a_burst_is_read_whole_where_the_storys_loop_reads_its_first_entry_alone(
    client: redis.Redis, in_thread: Callable[..., Any], until_blocked: Callable[..., None], server: Server
) -> None:
    """Ten commands in one packet: the server has carried out all of them before it reads what a woken reader asks."""
    ids: queue.Queue[int] = queue.Queue()

    def broken() -> int:
        with server.client(single_connection_client=True) as own:
            ids.put(own.client_id())
            seen = 0
            while found := own.xread({"events": "$"}, count=20, block=0):
                seen += sum(len(entries) for entries in entries_of(found))
            return seen

    with EVENTS.bind(client) as reader:
        reader.subscribe()
        story, ours = in_thread(broken), in_thread(bodies, reader, 10)
        until_blocked(2)
        with client.pipeline(transaction=False) as burst:
            for number in range(10):
                burst.xadd("events", {"body": number}, id=f"5-{number + 1}")
            burst.execute()
        assert ours.result() == [b"%d" % number for number in range(10)]
        until_blocked(1)  # in vain: nothing more comes
        client.client_unblock(ids.get())
        assert story.result() == 1


def entries_of(found: Any) -> list[Any]:
    return list(found.values()) if isinstance(found, dict) else [entries for _, entries in found]


def test_nothing_is_missed_between_subscribing_and_the_first_wait(client: redis.Redis) -> None:
    client.xadd("events", {"body": "before"})
    with EVENTS.bind(client) as reader:
        reader.subscribe()
        burst(client, 10)
        assert bodies(reader, 10) == [b"%d" % number for number in range(10)]


def test_every_reader_gets_every_entry(client: redis.Redis, in_thread: Callable[..., Any]) -> None:
    readers = [EVENTS.bind(client) for _ in range(3)]
    for reader in readers:
        reader.subscribe()
    got = [in_thread(bodies, reader, 50) for reader in readers]
    for number in range(50):
        readers[0].put(b"%d" % number)
    for result in got:
        assert result.result() == [b"%d" % number for number in range(50)]
    for reader in readers:
        reader.close()


def test_a_reader_resumes_after_a_stored_id(client: redis.Redis) -> None:
    burst(client, 5)
    with Stream("events", after="0").bind(client) as reader:
        reader.get(1)
        stored = reader.get(1)
    assert stored is not None
    assert stored.id is not None
    with Stream("events", after=stored.id).bind(client) as reader:
        assert bodies(reader, 3) == [b"2", b"3", b"4"]
        assert reader.trimmed() == []


def test_an_error_leaves_no_doubt(
    client: redis.Redis, in_thread: Callable[..., Any], until_blocked: Callable[..., None]
) -> None:
    with EVENTS.bind(client) as reader:
        reader.subscribe()
        got = in_thread(reader.get)
        until_blocked()
        client.client_kill_filter(_id=next(c["id"] for c in client.client_list() if c["cmd"] == "xread"))
        with pytest.raises(redis.ConnectionError):
            got.result()
        burst(client, 3)
        assert bodies(reader, 3) == [b"0", b"1", b"2"]


def test_stop_ends_a_blocked_get(
    client: redis.Redis, in_thread: Callable[..., Any], until_blocked: Callable[..., None]
) -> None:
    with EVENTS.bind(client) as reader:
        got = in_thread(reader.get)
        until_blocked()
        reader.stop()
        with pytest.raises(Stopped):
            got.result()


def test_entries_pushed_out_by_maxlen_are_counted(client: redis.Redis) -> None:
    events = Stream("events", maxlen=3, approximate=False)
    with events.bind(client) as reader:
        reader.subscribe()
        ids = [reader.put(b"%d" % number) for number in range(10)]
        assert bodies(reader, 3) == [b"7", b"8", b"9"]
        assert reader.trimmed() == [Gap(after_id="0-0", before_id=ids[7], entries=7, exact=True)]


def test_deleted_entries_are_counted(client: redis.Redis) -> None:
    with EVENTS.bind(client) as reader:
        reader.subscribe()
        ids = [reader.put(b"%d" % number) for number in range(4)]
        client.xdel("events", ids[1], ids[2])
        assert bodies(reader, 2) == [b"0", b"3"]
        assert [(gap.entries, gap.exact) for gap in reader.trimmed()] == [(2, True)]


def test_an_emptied_stream_is_noticed_though_nothing_can_be_read(client: redis.Redis) -> None:
    with EVENTS.bind(client) as reader:
        reader.subscribe()
        reader.put(b"gone")
        client.xtrim("events", maxlen=0, approximate=False)
        assert reader.get(0) is None
        assert [(gap.before_id, gap.entries, gap.exact) for gap in reader.trimmed()] == [(None, 1, True)]


def test_a_stream_made_anew_is_an_inexact_gap(client: redis.Redis) -> None:
    with EVENTS.bind(client) as reader:
        reader.subscribe()
        for number in range(5):  # long ago: a stream made anew in the same millisecond begins with lower ids
            client.xadd("events", {"body": number}, id=f"1-{number + 1}")
        assert len(bodies(reader, 5)) == 5
        client.delete("events")
        burst(client, 2)
        assert bodies(reader, 2) == [b"0", b"1"]
        assert [gap.exact for gap in reader.trimmed()] == [False]


def test_a_starting_point_that_is_gone_is_an_inexact_gap(client: redis.Redis) -> None:
    burst(client, 10)
    client.xtrim("events", maxlen=2, approximate=False)
    with Stream("events", after="5-5").bind(client) as reader:
        assert bodies(reader, 2) == [b"8", b"9"]
        assert [(gap.after_id, gap.exact) for gap in reader.trimmed()] == [("5-5", False)]


@pytest.mark.parametrize("seed", range(12))
def test_what_was_read_and_what_is_reported_missing_make_up_what_was_added(client: redis.Redis, seed: int) -> None:
    """In any order of adding, trimming, deleting and reading."""
    chance = random.Random(seed)
    added: list[str] = []
    seen: list[str] = []
    with Stream("events", batch=chance.choice([1, 3, 100])).bind(client) as reader:
        reader.subscribe()
        for _ in range(120):
            match chance.choice(["add", "add", "trim", "delete", "read", "read"]):
                case "add":
                    added += [str(reader.put(b"x")) for _ in range(chance.randrange(6))]
                case "trim":
                    client.xtrim("events", maxlen=chance.randrange(8), approximate=False)
                case "delete" if added:
                    client.xdel("events", chance.choice(added))
                case _:
                    got = reader.get(0 if chance.random() < 0.8 else 0.001)
                    seen += [] if got is None else [str(got.id)]
        while (got := reader.get(0)) is not None:
            seen.append(str(got.id))
        gaps = reader.trimmed()
    assert seen == [entry for entry in added if entry in set(seen)], "in order, each once"
    assert sum(gap.entries for gap in gaps) == len(added) - len(seen)
    assert all(gap.exact for gap in gaps)


def test_an_entry_without_the_field_is_told_and_passed_over(client: redis.Redis) -> None:
    client.xadd("events", {"payload": "x", "kind": "y"}, id="1-1")
    burst(client, 1)
    with Stream("events", after="0").bind(client) as reader:
        with pytest.raises(
            ValueError,
            match=r"entry 1-1 of stream 'events' has no field 'body'\. Its fields: 'payload', 'kind'\. Pass one",
        ):
            reader.get(1)
        assert bodies(reader, 1) == [b"0"]
    with Stream("events", after="0", field="kind").bind(client) as reader:
        assert bodies(reader, 1) == [b"y"]


def test_remaining_is_what_this_reader_has_not_got(client: redis.Redis) -> None:
    with EVENTS.bind(client) as reader:
        reader.subscribe()
        burst(client, 4)
        first = reader.get(1)
        assert first is not None
        assert (reader.remaining(), reader.pending()) == ([b"1", b"2", b"3"], [])
        reader.give_back(first)
        assert reader.remaining() == [b"0", b"1", b"2", b"3"]


def test_a_key_of_another_type_is_told(client: redis.Redis) -> None:
    client.rpush("events", "a list")
    with EVENTS.bind(client) as reader, pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        reader.get(0)


def test_async_readers(server: Server, client: redis.Redis) -> None:
    async def use() -> None:
        async with server.async_client() as asyncio_client, EVENTS.bind(asyncio_client) as reader:
            await reader.subscribe()
            burst(client, 3)
            assert [(await reader.get(1)).body for _ in range(3)] == [b"0", b"1", b"2"]
            assert await reader.get(0.01) is None

    asyncio.run(use())
