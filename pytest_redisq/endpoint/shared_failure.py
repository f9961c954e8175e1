"""Finds out that every operation of all workers fails in the same way, so that waiting longer is in vain."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

#: After so many seconds of nothing but the same failure, the run ends.
HOPELESS_SECONDS = 2.0


class FailureStreak(NamedTuple):
    """The failures of a worker since its last operation that did not fail.

    `since_ns`: when the first of them ended; 0: the last operation did not fail. `words`: the last error.
    `way`: the `failure_way` of the last error.
    """

    since_ns: int
    way: int
    words: str


@lru_cache(256)
def failure_way(text: str) -> int:
    """A number that is equal for errors of the same text, whatever numbers are in the text."""
    return zlib.crc32(re.sub(r"\d+", "#", text).encode(errors="replace"))


def shared_failure(streaks: Iterable[FailureStreak], *, now_ns: int, healed_ns: int, workers: str = "workers") -> str:
    """What to say where every operation of all living workers has failed in the same way long enough; else empty.

    * `streaks`: one for each living worker.
    * `now_ns`: the time now.
    * `healed_ns`: when a fault last struck or was healed; what failed before does not count. 0: never.
    * `workers`: what they are, in words; default: all workers.
    """
    ways = set()
    since_ns, words = healed_ns, ""
    for streak in streaks:
        if not streak.since_ns:
            return ""
        ways.add(streak.way)
        since_ns, words = max(since_ns, streak.since_ns), streak.words
    if len(ways) != 1 or now_ns - since_ns < HOPELESS_SECONDS * 1e9:
        return ""
    return f"Every operation of all {workers} has failed in the same way for {HOPELESS_SECONDS:g} s: {words}"
