"""The times at which a queue may bring messages back, as far as the server knows them, and making them pass.

These are times to live, moments of time among scores, fields and strings, and the idle times of pending entries. A
number is a moment if it is near the server's time of day, in seconds, milliseconds or microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis

from pytest_redisq.search.key_reader import KeyContent

#: After so many seconds every lease has run out, as in `explore`, unless the server tells of a longer one.
LEASES_SECONDS = 3_600.0
#: A number that differs by less than so many seconds from the time of day is a moment. Nothing is aged by more.
MOST_SECONDS = 30 * 86_400.0
#: Pending entries become older by at least so many seconds, since no server tells how long a claim waits.
IDLE_SECONDS = 86_400.0
#: The units in which moments are written, each as a part of a second.
_UNITS = (1, 1_000, 1_000_000)
#: The most pending entries of a group that are aged.
_ENTRIES = 10_000


class Timer(NamedTuple):
    """Something that happens in `left_seconds`; negative: it was due. `unit`: of the number, 0 for a time to live."""

    key: bytes
    type: str
    name: bytes
    number: float
    unit: int
    left_seconds: float


@dataclass(frozen=True, slots=True)
class ServerClock:
    """The server's time of day when a search began, in seconds."""

    now: float

    @classmethod
    def of(cls, client: redis.Redis) -> ServerClock:
        reply: Any = client.time()
        seconds, microseconds = reply
        return cls(seconds + microseconds / 1e6)

    def timers(self, content: KeyContent) -> Iterator[Timer]:
        """The times that a key has, except those of its elements."""
        if content.life_seconds is not None:
            yield Timer(content.key, content.type, b"", 0.0, 0, content.life_seconds)

    def moment(self, number: float) -> tuple[int, float] | None:
        """The unit of a number that is a moment, and the seconds until then; None if it is no moment."""
        for unit in _UNITS:
            left = number / unit - self.now
            if abs(left) < MOST_SECONDS:
                return unit, left
        return None


def let_time_pass(
    client: redis.Redis,
    timers: Iterable[Timer],
    streams: Iterable[bytes],
    seconds: float,
    idle_seconds: float = IDLE_SECONDS,
) -> None:
    """Age a namespace by so many seconds, as if the server's clock had run on.

    * `client`: a client that puts no prefix before the keys.
    * `timers`: of its keys. Keys whose time to live is over expire.
    * `streams`: the keys of its streams, whose pending entries become older.
    * `idle_seconds`: by how much at least; default: a day.
    """
    commands = [_aged(timer, seconds) for timer in timers]
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        pipeline.execute()
    for stream in streams:
        _age_pending(client, stream, max(seconds, idle_seconds))


def _aged(timer: Timer, seconds: float) -> tuple[Any, ...]:
    shift = round(seconds * timer.unit)
    match timer.type:
        case _ if not timer.unit:
            left = timer.left_seconds - seconds
            return ("PEXPIRE", timer.key, round(left * 1000)) if left > 0 else ("DEL", timer.key)
        case "zset":
            return ("ZINCRBY", timer.key, -shift, timer.name)
        case "hash":
            return ("HSET", timer.key, timer.name, _text(timer.number - shift))
        case _:
            return ("SET", timer.key, _text(timer.number - shift), "KEEPTTL")


def _text(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)


def _age_pending(client: redis.Redis, stream: bytes, seconds: float) -> None:
    groups: Any = client.xinfo_groups(stream)
    for group in groups:
        name = group["name"]
        pending: Any = client.xpending_range(stream, name, "-", "+", _ENTRIES)
        with client.pipeline(transaction=False) as pipeline:
            for entry in pending:
                idle = entry["time_since_delivered"] + round(seconds * 1000)
                pipeline.xclaim(stream, name, entry["consumer"], 0, [entry["message_id"]], idle=idle, justid=True)
            pipeline.execute()
