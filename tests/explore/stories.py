"""True races, each broken and right, with the shortest schedule that shows the broken one, worked out by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis
from packaging.version import Version

from pytest_redisq.explore import World

Client = Any  # redis-py's own annotations mix the replies of its two faces


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """`minimum`: what a person finds with pencil and paper; several where they are equally short."""

    broken: Callable[[World], None]
    right: Callable[[World], None]
    minimum: tuple[str, ...]
    faults: str = ""
    options: dict[str, Any] = field(default_factory=dict)


# -- S1: two drainers of one list ------------------------------------------------------------------------------------


def drain_by_trimming(client: Client, key: str) -> list[bytes]:
    length = client.llen(key)
    items: list[bytes] = client.lrange(key, 0, length - 1)
    client.ltrim(key, length, -1)
    return items


def drain_by_popping(client: Client, key: str) -> list[bytes]:
    items: list[bytes] = []
    while found := client.lpop(key, 3):
        items += found
    return items


def two_drainers(drain: Callable[..., list[bytes]]) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        world.redis.rpush("jobs", *"abcd")
        one, two = world.actor(drain, "jobs"), world.actor(drain, "jobs")
        world.run()
        assert sorted(one.result + two.result) == [b"a", b"b", b"c", b"d"]

    return scenario


# -- S2: reading a stream from `$` again and again -------------------------------------------------------------------


def read_from_now(client: Client, count: int) -> list[bytes]:
    """The trap: each call's `$` means "after what is there by now"."""
    seen: list[bytes] = []
    while len(seen) < count:
        reply = client.xread({"s": "$"}, block=1000, count=20)
        if not reply:
            return seen
        seen += [fields[b"n"] for fields in _entries(reply)]
    return seen


def read_from_last(client: Client, count: int) -> list[bytes]:
    """The cure: always the last ID received."""
    seen: list[bytes] = []
    last = "0"
    while len(seen) < count:
        reply = client.xread({"s": last}, block=1000, count=20)
        if not reply:
            return seen
        seen += [fields[b"n"] for fields in _entries(reply)]
        last = _last_id(reply)
    return seen


def _entries(reply: Any) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in _stream(reply)]


def _last_id(reply: Any) -> str:
    return str(_stream(reply)[-1][0].decode())


def _stream(reply: Any) -> Any:
    if isinstance(reply, dict):
        entries = reply[b"s"]
        return entries[0] if entries and isinstance(entries[0], list) else entries
    return reply[0][1]


def add_burst(client: Client) -> None:
    for number in range(3):
        client.xadd("s", {"n": number})


def one_reader(read: Callable[..., list[bytes]]) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        reader, _ = world.actor(read, 3), world.actor(add_burst)
        world.run()
        if reader.result:  # what was added before the first call blocked is another story
            assert len(reader.result) == 3 or reader.result[0] != b"0"

    return scenario


# -- S4: a worker is killed after its BLPOP         ------------------------------------------------------------------


def blpop_worker(client: Client) -> None:
    while job := client.blpop("jobs", timeout=30):
        client.rpush("done", job[1])


def reliable_worker(client: Client) -> None:
    while (job := client.blmove("jobs", "doing", timeout=30)) is not None:
        with client.pipeline(transaction=True) as pipe:
            pipe.rpush("done", job)
            pipe.lrem("doing", 1, job)
            pipe.execute()


def put_two(client: Client) -> None:
    client.rpush("jobs", "a")
    client.rpush("jobs", "b")


def killed_worker(worker: Callable[..., None]) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        world.actor(worker, name="worker")
        world.actor(put_two, name="producer")
        world.run()
        left = [world.redis.lrange(key, 0, -1) for key in ("jobs", "doing", "done")]
        assert sorted(job for jobs in left for job in jobs) == [b"a", b"b"]

    return scenario


# -- look, then take -------------------------------------------------------------------------------------------------


def peek_and_pop(client: Client) -> bytes | None:
    job: bytes | None = client.lindex("jobs", 0)
    if job is not None:
        client.lpop("jobs")
    return job


def just_pop(client: Client) -> bytes | None:
    job: bytes | None = client.lpop("jobs")
    return job


def two_takers(take: Callable[..., bytes | None]) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        world.redis.rpush("jobs", "a", "b")
        one, two = world.actor(take), world.actor(take)
        world.run()
        assert {one.result, two.result} == {b"a", b"b"}

    return scenario


# -- a schedule in a sorted set --------------------------------------------------------------------------------------


def take_due(client: Client) -> list[bytes]:
    due: list[bytes] = client.zrangebyscore("delayed", 0, 10)
    client.zremrangebyscore("delayed", 0, 10)
    return due


def take_due_at_once(client: Client) -> list[bytes]:
    with client.pipeline(transaction=True) as pipe:
        pipe.zrangebyscore("delayed", 0, 10)
        pipe.zremrangebyscore("delayed", 0, 10)
        due: list[bytes] = pipe.execute()[0]
    return due


def add_due(client: Client) -> None:
    client.zadd("delayed", {"b": 2})


def due_and_added(take: Callable[..., list[bytes]]) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        world.redis.zadd("delayed", {"a": 1})
        taker, _ = world.actor(take), world.actor(add_due)
        world.run()
        assert sorted(taker.result + world.redis.zrange("delayed", 0, -1)) == [b"a", b"b"]

    return scenario


# -- moving a job with a kill in between -----------------------------------------------------------------------------


def requeue(client: Client) -> None:
    job = client.hget("jobs:failed", "1")
    client.hdel("jobs:failed", "1")
    client.zrem("index", "1")
    client.lpush("jobs", job)


def requeue_at_once(client: Client) -> None:
    job = client.hget("jobs:failed", "1")
    with client.pipeline(transaction=True) as pipe:
        pipe.hdel("jobs:failed", "1")
        pipe.zrem("index", "1")
        pipe.lpush("jobs", job)
        pipe.execute()


def requeued(move: Callable[..., None]) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        world.redis.hset("jobs:failed", "1", "a")
        world.redis.zadd("index", {"1": 1})
        world.actor(move)
        world.run()
        assert world.redis.hget("jobs:failed", "1") or world.redis.lrange("jobs", 0, -1) == [b"a"]

    return scenario


# -- a lost reply, and a client that tries again ---------------------------------------------------------------------


def push_with_default_client(url: str) -> None:
    """redis-py as one writes it first: since 6.0 it tries everything again, RPUSH too."""
    host, port = url.removeprefix("redis://").split(":")
    with redis.Redis(host, int(port)) as client:
        client.rpush("jobs", "a")


def push_once(url: str) -> None:
    with redis.Redis.from_url(url, retry=None) as client:
        client.rpush("jobs", "a")


def pushed(push: Callable[[str], None]) -> Callable[[World], None]:
    def scenario(world: World) -> None:
        world.actor(push, gets="url")
        world.run()
        assert world.redis.lrange("jobs", 0, -1) in ([], [b"a"])

    return scenario


# -- right all along ---------------------------------------------------------------------------------------------------


def patient_consumer(world: World) -> None:
    """Waits for each job as long as 30 s; nothing is lost, and each worker gets a job."""
    consumer = world.actor(lambda client: [client.blpop("jobs", timeout=30)[1] for _ in range(2)])
    world.actor(put_two)
    world.run()
    assert consumer.result == [b"a", b"b"]


def group_worker(client: Client, name: str) -> None:
    """Takes new entries, then those that other workers have held for a minute; acknowledges what it has done."""
    while reply := client.xreadgroup("g", name, {"s": ">"}, count=1, block=1000):
        finish(client, [(number, fields[b"n"]) for number, fields in _stream(reply)])
    time.sleep(90)
    finish(client, [(number, fields[b"n"]) for number, fields in client.xautoclaim("s", "g", name, 60_000)[1]])


def finish(client: Client, entries: list[tuple[bytes, bytes]]) -> None:
    for number, job in entries:
        client.sadd("done", job)
        client.xack("s", "g", number)


def group_with_a_recovery(world: World) -> None:
    """Two workers, one of which may die at any moment: the other does what it had begun."""
    world.redis.xgroup_create("s", "g", id="0", mkstream=True)
    world.actor(group_worker, "one", name="one")
    world.actor(group_worker, "two", name="two")
    world.actor(add_burst)
    world.run()
    assert world.redis.smembers("done") == {b"0", b"1", b"2"}


TWINS: dict[str, tuple[Callable[[World], None], str]] = {
    "blpop with a timeout": (patient_consumer, ""),
    "xreadgroup and xautoclaim": (group_with_a_recovery, "kill:one"),
}


# -- stopping a blocked worker ---------------------------------------------------------------------------------------


def stoppable_worker(client: Client, ids: list[int], stop: threading.Event) -> list[bytes]:
    taken: list[bytes] = []
    with client.client() as pinned:
        ids.append(pinned.client_id())
        while not stop.is_set():
            job = pinned.blpop("jobs", timeout=30)
            if job:
                taken.append(job[1])
    return taken


STORIES: dict[str, Story] = {
    "two drainers": Story(
        broken=two_drainers(drain_by_trimming),
        right=two_drainers(drain_by_popping),
        # One reads (2 steps), the other drains wholly (3), the one trims (1).
        minimum=("AABBBA",),
    ),
    "xread from $": Story(
        broken=one_reader(read_from_now),
        right=one_reader(read_from_last),
        # The reader blocks, one entry wakes it; the next two come before it asks again; it waits in vain.
        minimum=("ABBBAAt",),
    ),
    "blpop and a kill": Story(
        broken=killed_worker(blpop_worker),
        right=killed_worker(reliable_worker),
        # The worker is killed after the pop, before it has finished the job.
        minimum=("AxBB", "ABAkB"),
        faults="kill:worker",
    ),
    "lindex and lpop": Story(
        broken=two_takers(peek_and_pop),
        right=two_takers(just_pop),
        minimum=("ABBA",),
    ),
    "zrangebyscore and zremrangebyscore": Story(
        broken=due_and_added(take_due),
        right=due_and_added(take_due_at_once),
        minimum=("ABA",),
    ),
    "hdel, zrem, lpush and a kill": Story(
        broken=requeued(requeue),
        right=requeued(requeue_at_once),
        # Any death after the HDEL and before the LPUSH; the earliest.
        minimum=("AAx",),
        faults="kill",
    ),
}
if Version(redis.__version__) >= Version("6"):  # before, redis-py repeated nothing by default
    STORIES["lost reply and a retry"] = Story(
        broken=pushed(push_with_default_client),
        right=pushed(push_once),
        # The first push's reply is lost, the back-off passes, the second push.
        minimum=("ArAtA",),
        faults="lost-reply",
    )
