"""S2: a queue on a stream without groups. Each XREAD with `$` starts at the current end, so entries are missed."""

from __future__ import annotations

from typing import Any, cast

import redis

from pytest_redisq.check import Contract, Verdict
from pytest_redisq.demo.story import Attempt, Stage, Story, Version, explored
from pytest_redisq.explore import World
from pytest_redisq.queues import Delivery, Stream

CONTRACT = Contract.parse("fan-out")
#: The fewest entries that show the bug.
BURST = 3
#: Seconds of virtual time before the burst. Virtual time passes only when the reader waits.
AFTER_SECONDS = 0.5


class Dollar:
    """The story's queue: every XREAD uses `$`."""

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._client = client
        self._key = key
        self._read: list[Delivery] = []

    def put(self, body: bytes) -> str:
        return cast(bytes, self._client.xadd(self._key, {"body": body})).decode()

    def get(self, timeout_seconds: float) -> Delivery | None:
        if not self._read:
            streams: Any = self._client.xread({self._key: "$"}, count=20, block=int(timeout_seconds * 1000))
            entries = [entry for found in _values(streams) for entry in found]
            self._read = [Delivery(body=fields[b"body"], id=entry_id.decode()) for entry_id, fields in entries]
        return self._read.pop(0) if self._read else None


def _values(streams: Any) -> list[Any]:
    """The entries of each stream, from a reply in RESP2 (pairs) or RESP3 (a mapping of lists)."""
    if isinstance(streams, dict):
        return [entries for lists in streams.values() for entries in lists]
    return [entries for _, entries in streams or ()]


def broken(stage: Stage) -> Attempt:
    """Each read returns the first entry of a burst. The next `$` is already behind the rest."""
    key = stage.key("events")
    return _play(stage, lambda client: Dollar(client, key))


def fixed(stage: Stage) -> Attempt:
    """`$` is resolved once. Every read then uses the last ID received."""
    return _play(stage, Stream(stage.key("events")))


def _play(stage: Stage, queue: Any) -> Attempt:
    def scenario(world: World) -> Verdict:
        world.consumer(queue, name="reader")
        world.producer(queue, BURST, after_seconds=AFTER_SECONDS)
        return world.verify(CONTRACT)

    return explored(stage, scenario, CONTRACT, f"a reader waits in XREAD BLOCK; a burst of {BURST} XADDs arrives")


STORY = Story(
    id="S2",
    title="A queue on a stream, without groups",
    broken=Version(title="a loop of XREAD BLOCK … STREAMS s $", play=broken),
    fixed=Version(title="Stream: $ only at the start, then always the last ID", play=fixed),
)
