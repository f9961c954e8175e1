"""S1: draining a list of millions. A loop reads a chunk, then trims it; a second drainer acts between the two.

An earlier version read the whole list at once. Its only error was "Connection closed by server."; here the server's
log and counters give the causes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import redis

from pytest_redisq.check import Contract, Verdict, check
from pytest_redisq.demo.story import Attempt, Stage, Story, Version, explored
from pytest_redisq.errors import DeliveryError, RedisqError
from pytest_redisq.explore import World
from pytest_redisq.history import Recorder
from pytest_redisq.model import Kind
from pytest_redisq.queues import drain
from pytest_redisq.servers.diagnosis import Cause, observe, why_closed

CONTRACT = Contract.parse("effectively-once")
#: The contract of the search: it looks for schedules that lose elements.
LOSES_NOTHING = Contract.parse("at-least-once")
#: The fewest that show the bug: two chunks.
ELEMENTS = 4
CHUNK = 2
#: Elements in a chunk of the big list.
BIG_CHUNK = 100

#: A list of 20 MB, and two limits under which one reply of that size ends the connection.
BIG_LIST = (b"x" * 1_000, 20_000)
LIMITS = (
    ("client-output-buffer-limit", "normal 1mb 0 0", Cause.OUTPUT_BUFFER_LIMIT),
    ("maxmemory-clients", "2mb", Cause.CLIENT_EVICTION),
)

LEFT_ALONE = "(limits of your own server are not changed; run the demo on a server of redisq to see closed connections)"

Drainer = Callable[[redis.Redis, str], Iterable[list[bytes]]]


def broken(stage: Stage) -> Attempt:
    """Two drainers run the story's loop. One LRANGE of the whole list exceeds the server's limits."""
    closed = [LEFT_ALONE] if stage.server.kind == "url" else _read_whole_under_limits(stage)
    return _play(stage, _story_loop, closed)


def fixed(stage: Stage) -> Attempt:
    """Two drainers use `drain`, which also reads the big list under the same limits."""
    survived = [] if stage.server.kind == "url" else _drain_under_limits(stage)
    with _without_warnings():
        return _play(stage, _supplied_drain, survived)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """`drain` logs a warning when another drainer holds a part of the list. Here that happens in every schedule."""
    log = logging.getLogger("pytest_redisq")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _story_loop(client: redis.Redis, key: str) -> Iterator[list[bytes]]:
    """Reads the length once, so that elements pushed later stay. It is correct only without a second drainer."""
    left = client.llen(key)
    while left > 0:
        size = min(CHUNK, left)
        chunk = cast(list[bytes], client.lrange(key, 0, size - 1))
        client.ltrim(key, size, -1)
        left -= size
        yield chunk


def _supplied_drain(client: redis.Redis, key: str) -> Iterable[list[bytes]]:
    return drain(client, key, chunk=CHUNK)


def _play(stage: Stage, drainer: Drainer, closed: list[str]) -> Attempt:
    """Explore two drainers at once, then one alone; then check which elements are left."""
    key = stage.key("jobs")

    def scenario(world: World) -> Verdict:
        record = Recorder()
        messages, bodies = stage.bodies(0, range(ELEMENTS))
        token = record.invoke("producer", Kind.ENQUEUE, messages, queue=key)
        world.redis.rpush(key, *bodies)
        record.ok(token)
        for name in ("one", "two"):
            world.actor(_drain, stage, record, drainer, name, name=name)
        world.run()
        world.actor(_drain, stage, record, drainer, "three", name="three")
        world.run()
        record.quiescence(remaining=stage.read(cast(list[bytes], world.redis.lrange(key, 0, -1))))
        history = record.history()
        if check(history, LOSES_NOTHING).outcome != "pass":
            raise DeliveryError("elements are lost", history=history)
        return check(history, CONTRACT)

    said = f"{ELEMENTS} elements, two drainers, chunks of {CHUNK}"
    attempt = explored(stage, scenario, CONTRACT, said)
    return replace(attempt, evidence=(*closed, *attempt.evidence))


def _drain(client: redis.Redis, stage: Stage, record: Recorder, drainer: Drainer, name: str) -> None:
    chunks = iter(drainer(client, stage.key("jobs")))
    while True:
        token = record.invoke(name, Kind.DRAIN, queue=stage.key("jobs"))
        chunk = next(chunks, None)
        record.ok(token, stage.read(chunk or []))
        if chunk is None:
            return


def _read_whole_under_limits(stage: Stage) -> list[str]:
    """For each limit: the error of one LRANGE of the whole list, and the cause as the server reports it."""
    found: list[str] = []
    with _big_list(stage) as key:
        for name, value, cause in LIMITS:
            with _limited(stage, name, value), stage.connect() as client:
                before = observe(stage.server)
                assert before is not None
                try:
                    client.lrange(key, 0, -1)
                except redis.ConnectionError as error:
                    diagnosis = why_closed(stage.server, before)
                    if diagnosis.cause is not cause:
                        raise RedisqError(f"{name} {value} was taken for another cause: {diagnosis}") from error
                    found.append(f"LRANGE 0 -1 of 20 MB: {error} Cause: {diagnosis}")
                else:
                    raise RedisqError(f"LRANGE of 20 MB survived {name} {value}")
    return found


def _drain_under_limits(stage: Stage) -> list[str]:
    survived: list[str] = []
    for name, value, _ in LIMITS:
        with _big_list(stage) as key, _limited(stage, name, value), stage.connect() as client:
            elements = sum(len(chunk) for chunk in drain(client, key, chunk=BIG_CHUNK))
            survived.append(f"drained {elements:,} elements of 1 kB under {name} {value}")
    return survived


@contextmanager
def _big_list(stage: Stage) -> Iterator[str]:
    key = stage.key("big")
    body, count = BIG_LIST
    for _ in range(count // 1_000):
        stage.client.rpush(key, *[body] * 1_000)
    try:
        yield key
    finally:
        stage.client.unlink(key)


@contextmanager
def _limited(stage: Stage, name: str, value: str) -> Iterator[None]:
    usual = stage.server.config(name)
    stage.server.config(name, value)
    try:
        yield
    finally:
        stage.server.config(name, usual)


STORY = Story(
    id="S1",
    title="Draining a list of millions",
    broken=Version(title="LLEN once, then LRANGE and LTRIM in a loop, by two drainers", play=broken),
    fixed=Version(title="drain(): claims the list in one step, so each element goes to one drainer", play=fixed),
)
