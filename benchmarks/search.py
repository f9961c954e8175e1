"""What the search for missing messages costs: nothing in a passing run, and how long it takes over many keys.

    python benchmarks/search.py [--keys 100_000] [--messages 10_000]

A passing run is asked once which messages are missing, counts the server's trims and looks at its streams at its start,
and at its end at the entries pending in streams and at some keys: told as a part of the run's time. A run that trims
looks besides at each reply that hands a message to a consumer; that part is told apart. The search is timed over keys
of all types, half of them with bodies, best of three rounds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import redis

from pytest_redisq.check import FinishedMessages, missing_messages
from pytest_redisq.endpoint.fence import Fence
from pytest_redisq.model import Message, encode_body
from pytest_redisq.options import Settings
from pytest_redisq.queues import ReliableList
from pytest_redisq.resp import Trait
from pytest_redisq.runner import run
from pytest_redisq.search import NamespaceSearch, TrimWatch, marked_messages
from pytest_redisq.servers import Address, Server, start

ROUNDS = 3
RUN = "5ab0"
#: Keys that one pipeline writes.
_BATCH = 1_000


def fill(client: redis.Redis, keys: int) -> None:
    """Write so many keys of all types in turns, every second one with a body of the run."""
    client.flushdb()
    for start_at in range(0, keys, _BATCH):
        pipeline: Any = client.pipeline(transaction=False)
        for number in range(start_at, min(keys, start_at + _BATCH)):
            body = encode_body(RUN if number % 2 else "other", Message(0, number), b"x" * 50)
            match number // 2 % 5:
                case 0:
                    pipeline.rpush(f"list:{number}", body)
                case 1:
                    pipeline.set(f"string:{number}", body)
                case 2:
                    pipeline.hset(f"hash:{number}", "body", body)
                case 3:
                    pipeline.zadd(f"zset:{number}", {body: number})
                case 4:
                    pipeline.sadd(f"set:{number}", body)
        pipeline.execute()


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def search_seconds(server: Server, keys: int) -> float:
    with server.client() as client:
        fill(client, keys)
    search = NamespaceSearch(Address(url=server.url), marked_messages(RUN))
    wanted = [Message(0, number) for number in range(1, keys, keys // 50)]
    result = search.search(wanted)
    if result.gap or len(result.found) != sum(message.sequence % 2 for message in wanted):
        raise SystemExit(f"the search went wrong: {result.gap or len(result.found)}")
    return min(seconds(lambda: search.search(wanted)) for _ in range(ROUNDS))


class _Connection:
    """Stands for a worker's connection."""


def look_at_replies(messages: int) -> None:
    """Do what a fence does for so many messages that consumers receive."""
    fence, connection = Fence(), _Connection()
    fence.find = marked_messages(RUN)
    body = encode_body(RUN, Message(0, 1))
    for _ in range(messages):
        fence.look_at(connection, ("BLMOVE", "jobs", "jobs:processing", "LEFT", "RIGHT", 1))
        fence.look_at_reply(connection, body)
        fence.handed.clear()


def parts_of_a_passing_run(server: Server, messages: int) -> tuple[float, float]:
    """What a run spends on finding that nothing is missing, and one that trims on its replies: parts of its time."""
    done = run(ReliableList("jobs"), at=server, producers=2, consumers=2, messages=messages)
    done.verify("at-least-once")
    with server.client() as client:
        client.ping()
        search = NamespaceSearch(Address(url=server.url), marked_messages(RUN))
        finished = FinishedMessages(done.history)
        spent = sum(
            map(
                seconds,
                (
                    lambda: TrimWatch(client, lambda: Trait.NONE, shared=False),
                    search.search_streams,
                    lambda: missing_messages(done.history),
                    lambda: search.search_pending(finished),
                    lambda: search.search_briefly(finished),
                ),
            )
        )
    took = (done.ended_ns - done.started_ns) / 1e9
    return spent / took, seconds(lambda: look_at_replies(messages)) / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=10_000)
    options = parser.parse_args()
    server = start(Settings(server="process"))
    try:
        part, part_of_replies = parts_of_a_passing_run(server, options.messages)
        took = search_seconds(server, options.keys)
    finally:
        server.stop()
    figures = {
        "part_of_a_passing_run": round(part, 4),
        "part_of_replies_where_a_bound_trims": round(part_of_replies, 4),
        "keys": options.keys,
        "search_seconds": round(took, 2),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
