"""Each test's own corner: clean, apart from all others, and on somebody's own Redis without a trace."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.servers import Corner, Corners, Server, start
from pytest_redisq.servers.corner import ROTATION
from tests.support import eventually, local


@pytest.fixture
def corners(server: Server) -> Iterator[Corners]:
    """Of a server of our own, of each kind."""
    corners = Corners(server)
    yield corners
    corners.close()


def test_each_corner_is_clean(corners: Corners) -> None:
    for _ in range(3 * ROTATION):
        with corners.corner() as corner:
            assert corner.client.dbsize() == 0
            corner.client.set("jobs", "mine")


def test_nested_corners_do_not_meet(corners: Corners) -> None:
    with corners.corner() as outer, corners.corner() as inner:
        outer.client.set("jobs", "outer")
        assert inner.client.get("jobs") is None
        inner.clean()
        assert outer.client.get("jobs") == b"outer"


def test_what_a_test_left_running_cannot_write_into_the_next(corners: Corners) -> None:
    with corners.corner() as first:
        straggler = first.new_client()
    with corners.corner() as second:
        straggler.set("jobs", "late")
        assert second.client.get("jobs") is None
    straggler.close()


def test_all_clients_of_a_corner_see_the_same(corners: Corners) -> None:
    async def get(corner: Corner) -> bytes | None:
        async with corner.async_client() as client:
            answer: bytes | None = await client.get(corner.key("jobs"))
            return answer

    with corners.corner() as corner:
        corner.client.set("jobs", "here")
        assert asyncio.run(get(corner)) == b"here"
        with corner.new_client() as other, redis.Redis.from_url(corner.url) as plain:
            assert other.get("jobs") == plain.get(corner.key("jobs")) == b"here"
        with pickle.loads(pickle.dumps(corner.address)).client() as elsewhere:
            assert elsewhere.get("jobs") == b"here"


def test_a_server_left_dead_or_paused_is_revived_for_the_next_test(corners: Corners, server: Server) -> None:
    for _ in range(ROTATION):
        with corners.corner():
            pass
    server.kill()
    with corners.corner() as corner:
        assert corner.client.ping()
    server.pause()
    with corners.corner() as corner:
        assert corner.client.ping()


def test_processes_of_a_run_take_different_databases(process: Server) -> None:
    """And those of a process that ended, however, are free again."""
    assert process.keeper
    program = f"""if True:
        import os, signal, sys
        from pathlib import Path
        from pytest_redisq.servers import Corners, Server
        from pytest_redisq.servers.keeper import Keeper
        corners = Corners(Server(**{process.record()!r}, keeper=Keeper(Path({str(process.keeper.directory)!r}))))
        with corners.corner() as corner:
            print(corner.url, flush=True)
            sys.stdin.read()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    corners = Corners(process)
    with corners.corner() as ours:
        pair = [
            subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        urls = [other.stdout.readline().strip() for other in pair if other.stdout]
        assert len({ours.url, *urls}) == 3
        for other in pair:
            other.communicate()
    with corners.corner() as again:
        assert again.url in urls
    corners.close()


def test_a_server_without_databases_to_spare_says_so() -> None:
    server = start(local(server_args=("--databases", "2")))
    one, other = Corners(server), Corners(server)
    with (
        one.corner(),
        pytest.raises(ServerError, match=r"All 2 databases of this server are taken.*\nWhat to do: "),
        other.corner(),
    ):
        pass
    one.close()
    server.stop()


@pytest.fixture
def populated(process: Server) -> Server:
    """Somebody's own server: a thousand keys of every type in two databases, "jobs" among them."""
    for database in (0, 1):
        with process.client() as client, client.pipeline(transaction=False) as pipe:
            pipe.select(database)
            pipe.rpush("jobs", *range(20))
            pipe.xadd("events", {"field": "value"}, id="1-1")
            for number in range(100):
                pipe.set(f"string:{number}", number, ex=100_000)
                pipe.rpush(f"list:{number}", *range(number + 1))
                pipe.hset(f"hash:{number}", mapping={"field": number})
                pipe.sadd(f"set:{number}", *range(number + 1))
                pipe.zadd(f"sorted:{number}", {"member": number})
            pipe.execute()
    return process


def digest(server: Server) -> str:
    """Of every key of the server: its name, its content, and when it expires."""
    found = hashlib.sha256()
    for database in (0, 1):
        with redis.Redis.from_url(server.url.replace("/0", f"/{database}")) as client:
            for key in sorted(client.keys()):
                found.update(b"%d %s %s %d\n" % (database, key, client.dump(key), client.expiretime(key)))
    return found.hexdigest()


def destroy(client: redis.Redis) -> None:
    """What tests do, all with the names that somebody else uses too."""
    client.rpush("jobs", "a", "b", "c")
    assert client.blpop("jobs")[1] == b"a"
    assert client.lmove("jobs", "list:1", "LEFT", "RIGHT") == b"b"
    client.delete("jobs", "string:1", "hash:1")
    client.unlink("set:1")
    client.rename("list:1", "list:2")
    client.expire("list:2", 1)
    client.xadd("events", {"f": "v"}, maxlen=1)
    client.xgroup_create("events", "group", id="0")
    assert client.xreadgroup("group", "me", {"events": ">"})
    client.xtrim("events", maxlen=0)
    client.zadd("sorted:1", {"other": 1})
    client.zpopmin("sorted:1")
    client.getdel("string:2")
    client.set("string:3", "mine")
    client.eval("return redis.call('DEL', KEYS[1], KEYS[2])", 2, "string:4", "string:5")
    with client.pipeline() as pipe:
        pipe.delete("string:6").lpop("list:3").sunionstore("set:2", "set:3")
        pipe.execute()
    with client.lock("string:7", timeout=1):
        pass
    for key in client.scan_iter("*"):
        client.delete(key)
    assert client.keys() == []


REFUSED = ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "RANDOMKEY", "SHUTDOWN NOSAVE", "CONFIG SET maxmemory 1", "MOVE jobs 1"]


@pytest.mark.parametrize("protocol", [2, 3])
def test_somebodys_keys_are_as_before(populated: Server, protocol: int) -> None:
    """Checked by a digest of all keys; the twin below shows that the digest would tell."""
    before = digest(populated)
    external = start(Settings(server=populated.url))
    corners = Corners(external)
    for _ in range(3):
        with corners.corner() as corner, corner.new_client(protocol=protocol) as client:
            assert client.keys() == []
            destroy(client)
            client.rpush("jobs", "left behind")
            for line in REFUSED:
                with pytest.raises(ServerError, match="is refused: this Redis is not ours"):
                    client.execute_command(*line.split())
            assert client.lrange("jobs", 0, -1) == [b"left behind"]
    corners.close()
    external.stop()
    assert digest(populated) == before


def test_a_plain_client_would_be_noticed(populated: Server) -> None:
    before = digest(populated)
    with populated.client() as plain:
        plain.lpop("jobs")
    assert digest(populated) != before


def test_somebodys_keys_are_as_before_under_asyncio(populated: Server) -> None:
    async def use(corner: Corner) -> None:
        async with corner.async_client() as client:
            await client.rpush("jobs", "a", "b")
            assert (await client.blpop(["jobs"]))[1] == b"a"
            async with client.pipeline() as pipe:
                assert await pipe.keys().delete("jobs", "string:1").execute() == [[b"jobs"], 1]
            with pytest.raises(ServerError, match="FLUSHALL is refused"):
                await client.flushall()
            assert await client.set("string:1", "mine")
            await client.rpush("jobs", "left behind")

    before = digest(populated)
    external = start(Settings(server=populated.url))
    corners = Corners(external)
    with corners.corner() as corner:
        asyncio.run(use(corner))
    corners.close()
    external.stop()
    assert digest(populated) == before


def test_keys_of_other_programs_are_deleted_by_name_or_found_at_the_end(populated: Server) -> None:
    before = digest(populated)
    external = start(Settings(server=populated.url))
    corners = Corners(external)
    with corners.corner() as corner, redis.Redis.from_url(corner.url) as other:
        other.rpush(corner.key("jobs"), "named")
        assert corner.client.lrange("jobs", 0, -1) == [b"named"]
        other.set(f"{corner.prefix}unnamed", "by a child process, say")
    with populated.client() as client:
        assert [key.decode() for key in client.keys(f"{corner.prefix}*")] == [f"{corner.prefix}unnamed"]
    corners.close()
    external.stop()
    assert digest(populated) == before


def test_threads_stay_inside_the_prefix_on_connections_that_break(populated: Server) -> None:
    """A reply must never be taken for another command's, however many connections there are and end."""
    external = start(Settings(server=populated.url))
    corners = Corners(external)
    before = digest(populated)

    def work(number: int) -> None:
        with corner.new_client() as client:
            for turn in range(50):
                client.rpush(f"jobs:{number}", turn)
                assert client.blpop(f"jobs:{number}") in (
                    [key := b"jobs:%d" % number, b"%d" % turn],
                    (key, b"%d" % turn),
                )
                if turn % 10 == 9:
                    client.connection_pool.disconnect()

    with corners.corner() as corner, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    corners.close()
    external.stop()
    assert digest(populated) == before


def test_a_single_connection_is_kept_inside_too(populated: Server) -> None:
    external = start(Settings(server=populated.url))
    corners = Corners(external)
    with corners.corner() as corner, corner.new_client(single_connection_client=True) as client:
        assert client.lpop("jobs") is None
    corners.close()
    external.stop()


def test_subscriptions_work_inside_a_prefix(process: Server) -> None:
    external = start(Settings(server=process.url))
    corners = Corners(external)
    with corners.corner() as corner, corner.client.pubsub(ignore_subscribe_messages=True) as news:
        news.subscribe("news")
        corner.client.publish("news", "text")
        message = eventually(lambda: news.get_message(timeout=0.1))
        assert message["data"] == b"text"
    corners.close()
    external.stop()
