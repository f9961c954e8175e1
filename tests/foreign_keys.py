"""The user's own server with keys of theirs, many of them named as ours are; and whether they are as before."""

from __future__ import annotations

import itertools

import redis

from pytest_redisq.servers import Server

#: What runs name their keys after; none of these is in the registry of runs, so none of them is ours.
NASTY = (
    "redisq:",
    "redisq:*",
    "redisq:runs",
    "redisq:runs:{1}",
    "redisq:deadbeef:0:jobs",
    "redisq:deadbeefdeadbeef:0:jobs",
    "redisq:deadbeefdeadbeef:~lease",
    "redisq:load:{deadbeef}:jobs:0",
    "redisq:load:{deadbeef}:~lease",
    "redisq:load:orders",
    "redisq:probe:0",
    "REDISQ:deadbeefdeadbeef:0:jobs",
    "xredisq:deadbeefdeadbeef:0:jobs",
    "redisq:[0-9]*?\\",
    "redisq:\n\r\0\xff",
    "*",
    "?",
    "",
    "jobs",
)


def populate(server: Server, number: int = 10_000) -> None:
    """`number` keys of every type in two databases, with and without a time to live, the nasty names among them."""
    for database in (0, 1):
        with server.client() as client, client.pipeline(transaction=False) as pipe:
            pipe.select(database)
            names = itertools.chain(NASTY, (f"redisq:{index:016x}:{index % 7}:jobs" for index in itertools.count()))
            for index, name in zip(range(number // 2), names, strict=False):
                match index % 6:
                    case 0:
                        pipe.set(name, index, ex=100_000 + index)
                    case 1:
                        pipe.rpush(name, *range(index % 20 + 1))
                    case 2:
                        pipe.hset(name, mapping={"field": index})
                    case 3:
                        pipe.sadd(name, *range(index % 20 + 1))
                    case 4:
                        pipe.zadd(name, {"member": index})
                    case _:
                        pipe.xadd(name, {"field": "value"}, id=f"1-{index + 1}")
                if index % 50 == 7:
                    pipe.expire(name, 200_000 + index)
            pipe.execute()


def contents(server: Server) -> dict[tuple[int, bytes], tuple[bytes, int]]:
    """Of each key, by database and name: its content and when it expires, in milliseconds."""
    found: dict[tuple[int, bytes], tuple[bytes, int]] = {}
    for database in (0, 1):
        with redis.Redis.from_url(server.url.replace("/0", f"/{database}")) as client:
            names = sorted(client.keys())
            with client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.dump(name).pexpiretime(name)
                replies = pipe.execute()
        for name, dump, expires in zip(names, replies[::2], replies[1::2], strict=True):
            found[database, name] = dump, expires
    return found
