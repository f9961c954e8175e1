"""Each test's namespace: clean, isolated, and without a trace on the user's own server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.servers import Namespace, Namespaces, Server, start
from pytest_redisq.servers.namespace import ROTATION
from tests.support import eventually, local


@pytest.fixture
def namespaces(server: Server) -> Iterator[Namespaces]:
    """Of a server of our own, of each kind."""
    namespaces = Namespaces(server)
    yield namespaces
    namespaces.close()


def test_each_namespace_is_clean(namespaces: Namespaces) -> None:
    for _ in range(3 * ROTATION):
        with namespaces.namespace() as namespace:
            assert namespace.client.dbsize() == 0
            namespace.client.set("jobs", "mine")


def test_nested_namespaces_do_not_meet(namespaces: Namespaces) -> None:
    with namespaces.namespace() as outer, namespaces.namespace() as inner:
        outer.client.set("jobs", "outer")
        assert inner.client.get("jobs") is None
        inner.clean()
        assert outer.client.get("jobs") == b"outer"


def test_what_a_test_left_running_cannot_write_into_the_next(namespaces: Namespaces) -> None:
    with namespaces.namespace() as first:
        straggler = first.new_client()
    with namespaces.namespace() as second:
        straggler.set("jobs", "late")
        assert second.client.get("jobs") is None
    straggler.close()


def test_all_clients_of_a_namespace_see_the_same(namespaces: Namespaces) -> None:
    async def get(namespace: Namespace) -> bytes | None:
        async with namespace.async_client() as client:
            answer: bytes | None = await client.get(namespace.key("jobs"))
            return answer

    with namespaces.namespace() as namespace:
        namespace.client.set("jobs", "here")
        assert asyncio.run(get(namespace)) == b"here"
        with namespace.new_client() as other, redis.Redis.from_url(namespace.url) as plain:
            assert other.get("jobs") == plain.get(namespace.key("jobs")) == b"here"
        with pickle.loads(pickle.dumps(namespace.address)).client() as elsewhere:
            assert elsewhere.get("jobs") == b"here"


def test_a_server_left_dead_or_paused_is_revived_for_the_next_test(namespaces: Namespaces, server: Server) -> None:
    for _ in range(ROTATION):
        with namespaces.namespace():
            pass
    server.kill()
    with namespaces.namespace() as namespace:
        assert namespace.client.ping()
    server.pause()
    with namespaces.namespace() as namespace:
        assert namespace.client.ping()


def test_processes_of_a_run_take_different_databases(process: Server) -> None:
    """And those of a process that ended, however, are free again."""
    assert process.supervisor
    program = f"""if True:
        import json, os, signal, sys
        from pathlib import Path
        from pytest_redisq.servers import Namespaces, Server
        from pytest_redisq.servers.supervisor import Supervisor
        supervisor = Supervisor(Path({str(process.supervisor.directory)!r}))
        namespaces = Namespaces(Server(**json.loads({json.dumps(process.record())!r}), supervisor=supervisor))
        with namespaces.namespace() as namespace:
            print(namespace.url, flush=True)
            sys.stdin.read()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    namespaces = Namespaces(process)
    with namespaces.namespace() as ours:
        pair = [
            subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        urls = [other.stdout.readline().strip() for other in pair if other.stdout]
        assert len({ours.url, *urls}) == 3
        for other in pair:
            other.communicate()
    with namespaces.namespace() as again:
        assert again.url in urls
    namespaces.close()


def test_a_server_without_databases_to_spare_says_so() -> None:
    server = start(local(server_args=("--databases", "2")))
    one, other = Namespaces(server), Namespaces(server)
    with (
        one.namespace(),
        pytest.raises(ServerError, match=r"Other processes of this run use all 2 databases.*\nWhat to do: "),
        other.namespace(),
    ):
        pass
    one.close()
    server.stop()


@pytest.fixture
def populated(process: Server) -> Server:
    """The user's own server: a thousand keys of every type in two databases, "jobs" among them."""
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
    """Commands of tests, all with key names that other data on the server also use."""
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
    namespaces = Namespaces(external)
    for _ in range(3):
        with namespaces.namespace() as namespace, namespace.new_client(protocol=protocol) as client:
            assert client.keys() == []
            destroy(client)
            client.rpush("jobs", "left behind")
            for line in REFUSED:
                with pytest.raises(ServerError, match="is refused: this is your own server"):
                    client.execute_command(*line.split())
            assert client.lrange("jobs", 0, -1) == [b"left behind"]
    namespaces.close()
    external.stop()
    assert digest(populated) == before


def test_a_plain_client_would_be_noticed(populated: Server) -> None:
    before = digest(populated)
    with populated.client() as plain:
        plain.lpop("jobs")
    assert digest(populated) != before


def test_somebodys_keys_are_as_before_under_asyncio(populated: Server) -> None:
    async def use(namespace: Namespace) -> None:
        async with namespace.async_client() as client:
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
    namespaces = Namespaces(external)
    with namespaces.namespace() as namespace:
        asyncio.run(use(namespace))
    namespaces.close()
    external.stop()
    assert digest(populated) == before


def test_keys_of_other_programs_are_deleted_by_name_or_found_at_the_end(populated: Server) -> None:
    before = digest(populated)
    external = start(Settings(server=populated.url))
    namespaces = Namespaces(external)
    with namespaces.namespace() as namespace, redis.Redis.from_url(namespace.url) as other:
        other.rpush(namespace.key("jobs"), "named")
        assert namespace.client.lrange("jobs", 0, -1) == [b"named"]
        other.set(f"{namespace.prefix}unnamed", "by a child process, say")
    with populated.client() as client:
        assert [key.decode() for key in client.keys(f"{namespace.prefix}*")] == [f"{namespace.prefix}unnamed"]
    namespaces.close()
    external.stop()
    assert digest(populated) == before


def test_threads_stay_inside_the_prefix_on_connections_that_break(populated: Server) -> None:
    """A reply must never belong to another command, with any number of connections that open and close."""
    external = start(Settings(server=populated.url))
    namespaces = Namespaces(external)
    before = digest(populated)

    def work(number: int) -> None:
        with namespace.new_client() as client:
            for turn in range(50):
                client.rpush(f"jobs:{number}", turn)
                assert client.blpop(f"jobs:{number}") in (
                    [key := b"jobs:%d" % number, b"%d" % turn],
                    (key, b"%d" % turn),
                )
                if turn % 10 == 9:
                    client.connection_pool.disconnect()

    with namespaces.namespace() as namespace, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    namespaces.close()
    external.stop()
    assert digest(populated) == before


def test_a_single_connection_is_kept_inside_too(populated: Server) -> None:
    external = start(Settings(server=populated.url))
    namespaces = Namespaces(external)
    with namespaces.namespace() as namespace, namespace.new_client(single_connection_client=True) as client:
        assert client.lpop("jobs") is None
    namespaces.close()
    external.stop()


def test_subscriptions_work_inside_a_prefix(process: Server) -> None:
    external = start(Settings(server=process.url))
    namespaces = Namespaces(external)
    with namespaces.namespace() as namespace, namespace.client.pubsub(ignore_subscribe_messages=True) as news:
        news.subscribe("news")
        namespace.client.publish("news", "text")
        message = eventually(lambda: news.get_message(timeout=0.1))
        assert message["data"] == b"text"
    namespaces.close()
    external.stop()
