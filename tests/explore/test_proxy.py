"""proxy.py and connection_state.py on the wire: what a client sees through the proxy is what it would see without."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from pytest_redisq.explore import World, explore, replay
from pytest_redisq.explore.schedule import Schedule
from pytest_redisq.resp import encode_command
from pytest_redisq.servers import Server
from tests.support import local_kind

Client = Any


def schedule_of(scenario: Callable[[World], None], url: str) -> str:
    """The schedule of a run that must not fail."""
    execution = replay(scenario, "", url=url)
    if execution.error:
        raise execution.error
    return str(execution.schedule)


def does(function: Callable[..., Any], url: str, **options: Any) -> tuple[Any, str]:
    results: list[Any] = []

    def scenario(world: World) -> None:
        actor = world.actor(function, **options)
        world.run()
        results.append(actor.result)

    schedule = schedule_of(scenario, url)
    return results[-1], schedule


def dial(url: str) -> socket.socket:
    host, port = url.removeprefix("redis://").split(":")
    return socket.create_connection((host, int(port)), 5)


def exchange(url: str, *pieces: bytes, until: bytes) -> bytes:
    """Send the pieces, and give what comes until it ends so (or the connection does)."""
    with dial(url) as connection:
        for piece in pieces:
            connection.sendall(piece)
        seen = b""
        while not seen.endswith(until) and (data := connection.recv(1 << 16)):
            seen += data
        return seen


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_pass(url: str, protocol: int) -> None:
    """Values of every shape come back the same; setting up takes no steps."""

    def work(through: str) -> list[Any]:
        with redis.Redis.from_url(through, protocol=protocol) as client:
            client.hset("h", mapping={"a": 1})
            client.zadd("z", {"m": 1.5})
            return [client.hgetall("h"), client.zrange("z", 0, -1, withscores=True), client.get("none")]

    result, schedule = does(work, url, gets="url")
    assert result[0] == {b"a": b"1"}
    assert [tuple(pair) for pair in result[1]] == [(b"m", 1.5)]
    assert result[2] is None
    assert schedule == "AAAAA"


def test_a_pipeline_is_as_many_steps_as_commands_and_a_transaction_one(url: str) -> None:
    """MULTI … EXEC is held at its EXEC, WATCH is a step of its own."""

    def work(client: Client) -> list[Any]:
        plain = client.pipeline(transaction=False).set("a", 1).incr("a").get("a").execute()
        atomic = client.pipeline(transaction=True).incr("a").incr("a").execute()
        with client.pipeline() as watching:
            watching.watch("a")
            watching.multi()
            watching.set("a", 9)
            watched = watching.execute()
        return [plain, atomic, watched]

    result, schedule = does(work, url)
    assert result == [[True, 2, b"2"], [3, 4], [True]]
    assert schedule == "AAA" + "A" + "AA"


def test_a_watched_key_that_changes_aborts_on_the_schedule_that_changes_it(url: str) -> None:
    """The optimistic lock fails exactly when the other actor comes between WATCH and EXEC."""

    def update(client: Client) -> bool:
        with client.pipeline() as pipe:
            pipe.watch("n")
            pipe.multi()
            pipe.incr("n")
            try:
                pipe.execute()
            except redis.WatchError:
                return False
            return True

    outcomes = set()

    def scenario(world: World) -> None:
        one, two = world.actor(update), world.actor(update)
        world.run()
        outcomes.add((one.result, two.result))

    assert explore(scenario, url=url, exhaustive=True).verify().complete
    assert outcomes == {(True, True), (True, False), (False, True)}


def test_big_replies_and_big_pipelines_pass(url: str) -> None:
    """Eight megabytes there and back, and two thousand commands at once."""

    def work(client: Client) -> tuple[int, int]:
        client.set("big", b"x" * (8 << 20))
        pipe = client.pipeline(transaction=False)
        for number in range(1000):
            pipe.rpush("l", number)
        return len(client.get("big")), len(pipe.execute())

    assert does(work, url)[0] == (8 << 20, 1000)


def test_inline_commands_pass_in_pieces(url: str) -> None:
    """As one types them; a command is held when its last byte is there."""
    work = lambda through: exchange(through, b"SET k ", b'"a b"\r\nGE', b"T k\r\n", until=b"a b\r\n")  # noqa: E731
    assert does(work, url, gets="url") == (b"+OK\r\n$3\r\na b\r\n", "AA")


def test_a_bad_frame_is_answered_by_the_server(url: str) -> None:
    """The client sees the server's own protocol error, and the end."""
    work = lambda through: exchange(through, b"*1\r\n$zz\r\n", until=b"never")  # noqa: E731
    answer, _ = does(work, url, gets="url")
    assert answer == b"-ERR Protocol error: invalid bulk length\r\n"


def test_client_reply_off_skip_and_on(url: str) -> None:
    """The client sees only the replies that it asked for; the commands are still steps."""
    commands = [
        ["CLIENT", "REPLY", "OFF"],
        ["SET", "k", "1"],
        ["CLIENT", "REPLY", "ON"],
        ["INCR", "k"],
        ["CLIENT", "REPLY", "SKIP"],
        ["INCR", "k"],
        ["INCR", "k"],
    ]
    work = lambda through: exchange(through, *map(encode_command, commands), until=b":4\r\n")  # noqa: E731
    assert does(work, url, gets="url") == (b"+OK\r\n:2\r\n:4\r\n", "AAAA")


def test_reset_and_quit_pass(url: str) -> None:
    """RESET leaves a transaction; QUIT ends the connection."""
    sent = [["MULTI"], ["SET", "k", "1"], ["RESET"], ["GET", "k"], ["QUIT"]]
    password = url.partition(":")[2].rpartition("@")[0].rpartition(":")[2]

    def work(through: str) -> bytes:
        commands = [*sent[:3], ["AUTH", password], *sent[3:]]
        return exchange(through, *map(encode_command, commands), until=b"never")

    assert does(work, url, gets="url")[0] == b"+OK\r\n+QUEUED\r\n+RESET\r\n+OK\r\n$-1\r\n+OK\r\n"


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_reach_subscribers_with_the_step_that_published_them(url: str, protocol: int) -> None:
    """Subscribed before or after the publishing: all that comes after is received."""

    def listen(through: str) -> list[Any]:
        with redis.Redis.from_url(through, protocol=protocol) as client, client.pubsub() as pubsub:
            pubsub.subscribe("c")
            messages = pubsub.listen()
            seen = [next(messages)["data"]]
            client.set("ready", 1)
            while seen[-1] != b"end":
                seen.append(next(messages)["data"])
            return seen

    def publish(client: Client) -> None:
        while not client.get("ready"):
            pass
        client.publish("c", "one")
        client.publish("c", "end")

    def scenario(world: World) -> None:
        listener = world.actor(listen, gets="url")
        world.actor(publish)
        world.run()
        assert listener.result == [1, b"one", b"end"]

    explore(scenario, url=url, schedules=20).verify()


def test_invalidations_arrive_with_the_step_that_caused_them(redisq_start: Callable[..., Server]) -> None:
    """RESP3's push messages that are not replies: client-side caching, between a client's own replies.

    On its own server: a FLUSHDB of any database invalidates all keys for all clients.
    """
    url = redisq_start().url
    track = [["HELLO", "3"], ["CLIENT", "TRACKING", "ON"], ["GET", "k"], ["GET", "ready"]]
    password = url.partition(":")[2].rpartition("@")[0].rpartition(":")[2]

    def scenario(world: World) -> None:
        sent = [["AUTH", password], *track] if password else track
        tracking = world.actor(
            lambda through: exchange(through, *map(encode_command, sent), until=b"$1\r\n1\r\n"), gets="url"
        )
        world.actor(lambda client: (client.set("k", "new"), client.set("ready", 1)))
        world.run()
        assert b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n" in tracking.result

    assert replay(scenario, "ABBA", url=url).error is None


def test_a_monitor_sees_what_passes(url: str) -> None:
    """MONITOR has no replies: both directions are passed on as they come."""

    def watch(through: str) -> bytes:
        with dial(through) as connection:
            for command in ([["AUTH", password]] if password else []) + [["MONITOR"]]:
                connection.sendall(encode_command(command))
            seen = b""
            while b'"SET" "k" "seen"' not in seen:
                seen += connection.recv(1 << 16)
            return seen

    password = url.partition(":")[2].rpartition("@")[0].rpartition(":")[2]

    def scenario(world: World) -> None:
        watching = world.actor(watch, gets="url", background=True)
        world.actor(lambda client: client.set("k", "seen"))
        world.run()
        assert watching.killed or b"OK" in watching.result

    schedule_of(scenario, url)


def test_functions_are_one_step(url: str) -> None:
    """The keys of FCALL say what it touches."""
    library = (
        "#!lua name=counting\nredis.register_function('by', function(k, a) return redis.call('INCRBY', k[1], a[1]) end)"
    )

    def work(client: Client) -> int:
        return int(client.fcall("by", 1, "n", 2))

    def scenario(world: World) -> None:
        world.redis.function_load(library, replace=True)
        one, two = world.actor(work), world.actor(work)
        world.run()
        assert sorted([one.result, two.result]) == [2, 4]
        world.redis.function_delete("counting")

    assert explore(scenario, url=url, exhaustive=True).verify().schedules == 2


def test_a_server_at_a_unix_socket_is_explored(redisq_start: Callable[..., Server], tmp_path: Path) -> None:
    """Behind the proxy as before it: actors find theirs by a socket file, or (as a URL) by TCP."""
    path = tmp_path / "redis.sock"
    server = redisq_start(server=local_kind(), server_args=[f"unixsocket {path}"])
    password = server.url.partition(":")[2].rpartition("@")[0].rpartition(":")[2]
    url = f"unix://:{password}@{path}?db=3"
    seen = []

    def connection(client: Client) -> str:
        return type(client.connection_pool.make_connection()).__name__

    def scenario(world: World) -> None:
        actor = world.actor(lambda client: (connection(client), client.incr("n")))
        other = world.actor(lambda through: redis.Redis.from_url(through).incr("n"), gets="url")
        world.run()
        assert world.redis.client_info()["db"] == 3
        seen.append((actor.result[0], {actor.result[1], other.result}))

    assert replay(scenario, "AB", url=url).error is None
    assert seen == [("UnixDomainSocketConnection", {1, 2})]


def test_scripts_are_one_step(url: str) -> None:
    """EVALSHA of a script that the server does not know yet is repeated with it loaded, so that runs are alike."""

    def work(client: Client) -> list[int]:
        script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        return [script(keys=["n"], args=[2]), script(keys=["n"], args=[3])]

    assert does(work, url) == ([2, 5], "AA")


@pytest.mark.parametrize(
    ("kind", "stored", "seen"),
    [
        ("q", 0, "Connection"),
        ("r", 1, "Connection"),
        ("c", 1, "Connection"),
    ],
)
def test_lost_requests_and_lost_replies_differ_in_what_is_stored(url: str, kind: str, stored: int, seen: str) -> None:
    """The client sees a lost connection each time; only the server knows whether it happened."""
    found: list[Any] = []

    def work(client: Client) -> str:
        try:
            client.rpush("l", "x")
        except redis.ConnectionError as error:
            return type(error).__name__
        return "ok"

    def scenario(world: World) -> None:
        actor = world.actor(work)
        world.run()
        found.append((world.redis.llen("l"), actor.result))

    assert replay(scenario, Schedule.parse(f"A{kind}"), url=url).error is None
    assert found[0][0] == stored
    assert seen in found[0][1]


@pytest.fixture
def blocked_commands() -> dict[str, Callable[[Client], Any]]:
    return {
        "blpop": lambda client: client.blpop(["x", "l"], timeout=30),
        "brpop": lambda client: client.brpop("l", timeout=30),
        "blmove": lambda client: client.blmove("l", "m", timeout=30),
        "brpoplpush": lambda client: client.brpoplpush("l", "m", timeout=30),
        "blmpop": lambda client: client.blmpop(30, 1, "l", direction="LEFT"),
        "bzpopmin": lambda client: client.bzpopmin("z", timeout=30),
        "bzmpop": lambda client: client.bzmpop(30, 1, "z", min=True),
        "xread": lambda client: client.xread({"s": "$"}, block=30_000),
        "xreadgroup": lambda client: client.xreadgroup("g", "c", {"s": ">"}, block=30_000),
        "wait": lambda client: client.wait(1, 30_000),
        "waitaof": lambda client: client.waitaof(0, 1, 30_000),
    }


def test_every_blocking_command_waits_for_what_it_waits_for(
    url: str, redisq_server: Server, blocked_commands: dict[str, Callable[[Client], Any]]
) -> None:
    """Each is woken by the step that gives it something, or times out when nothing else can happen."""

    def give(client: Client) -> None:
        client.pipeline(transaction=True).rpush("l", "v").zadd("z", {"v": 1}).xadd("s", {"v": 1}).execute()

    if not redisq_server.can("WAITAOF"):  # Redis before 7.2
        del blocked_commands["waitaof"]

    for name, command in blocked_commands.items():

        def scenario(world: World, command: Callable[[Client], Any] = command) -> None:
            world.redis.xgroup_create("s", "g", mkstream=True)
            actor = world.actor(command)
            world.actor(give)
            world.run()
            assert actor.result is not None

        execution = replay(scenario, "AB", url=url)
        assert execution.error is None, name
        assert str(execution.schedule) == ("ABAt" if name.startswith("wait") else "AB"), name
        assert bool(execution.events[1].woken) != name.startswith("wait"), name


def test_an_unblocked_worker_stops(url: str) -> None:
    """CLIENT UNBLOCK by id, from another actor: what stops a worker of S4, whenever it comes."""

    def worker(client: Client, ids: list[int]) -> list[bytes]:
        taken: list[bytes] = []
        with client.client() as pinned:
            ids.append(pinned.client_id())
            while not pinned.get("stop"):
                job = pinned.blpop("jobs", timeout=0)
                if job:
                    taken.append(job[1])
        return taken

    def stopper(client: Client, ids: list[int]) -> None:
        client.set("stop", 1)
        client.client_unblock(ids[0])

    def scenario(world: World) -> None:
        ids: list[int] = []
        world.redis.rpush("jobs", "a")
        stopped = world.actor(worker, ids)
        world.actor(stopper, ids)
        world.run()
        assert stopped.result in ([], [b"a"])

    failure = explore(scenario, url=url, exhaustive=True).failure
    assert failure, "stopped between its check of the flag and its BLPOP, this worker waits without end"
    assert "is blocked in BLPOP jobs 0" in str(failure.error)
