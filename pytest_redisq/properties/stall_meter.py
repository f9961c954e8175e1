"""How long machine and server stood still: what a busy machine takes is not to be laid at a queue's door."""

from __future__ import annotations

import threading
import time

from pytest_redisq import interrupts
from pytest_redisq.servers import Address

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True

#: Between two beats, in seconds.
_BEAT_SECONDS = 0.01


class StallMeter:
    """Asks the server for a PING every few milliseconds, from a thread and on a connection of its own.

    What such a beat takes longer than it should, nobody else could do anything in either: it was not scheduled, or the
    server was not. A context manager.
    """

    def __init__(self, address: Address) -> None:
        self._client = address.client()
        self._ended = threading.Event()
        self._longest_seconds = 0.0
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="redisq-pulse", daemon=True)

    def stood_still_seconds(self) -> float:
        """The longest that a beat was late, the one under way included."""
        under_way = time.monotonic() - self._began - _BEAT_SECONDS
        return max(self._longest_seconds, under_way, 0.0)

    def _beat(self) -> None:
        while not self._ended.is_set():
            self._began = time.monotonic()
            self._client.ping()
            self._ended.wait(_BEAT_SECONDS)
            self._longest_seconds = max(self._longest_seconds, time.monotonic() - self._began - _BEAT_SECONDS)

    def __enter__(self) -> StallMeter:
        self._client.ping()
        self._began = time.monotonic()
        interrupts.start(self._thread)
        return self

    def __exit__(self, *_: object) -> None:
        with interrupts.deferred():
            self._ended.set()
        self._thread.join()
        self._client.close()
