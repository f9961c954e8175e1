"""A job queue on Redis lists that survives its workers: BLMOVE, acknowledgement, heartbeat, recovery. At least once."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, overload

import redis
import redis.asyncio

from pytest_redisq.queues.blocking_list import redis_timeout
from pytest_redisq.queues.bound import AsyncBoundQueue, BoundQueue, attach
from pytest_redisq.queues.protocol import Delivery, Gap, Stopped
from pytest_redisq.queues.steps import RedisCommand, Steps, beside, command, nothing, run_script, worker_name

#: A dead worker's name is forgotten this long after its last heartbeat, in seconds. Not at once: a worker that was only
#: asleep may still be given a job by a BLMOVE that the server holds for it, so a living worker must look there.
_FORGET_AFTER_SECONDS = 86_400

# KEYS: workers (zset: name -> server time of its last heartbeat, s), alive:<worker> (expires)  ARGV: worker, lease ms
_BEAT = """
redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[1])
redis.call('SET', KEYS[2], '', 'PX', ARGV[2])
"""

# KEYS: queue, workers, then for each worker: alive, processing  ARGV: forget-after s, then the workers
# A worker is dead when its heartbeat has expired; asked and acted upon in one step, so a living one is never robbed and
# two recoverers share the jobs. Oldest job first again: the newest goes to the head first.
_RECOVER = """
local moved, now = 0, tonumber(redis.call('TIME')[1])
for i = 2, #ARGV do
  local alive, processing = KEYS[2 * i - 1], KEYS[2 * i]
  if redis.call('EXISTS', alive) == 0 then
    while moved < 1000 and redis.call('LMOVE', processing, KEYS[1], 'RIGHT', 'LEFT') do moved = moved + 1 end
    local beat = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or now)
    if now - beat > tonumber(ARGV[1]) and redis.call('EXISTS', processing) == 0 then
      redis.call('ZREM', KEYS[2], ARGV[i])
    end
  end
end
return moved
"""

# KEYS: workers, alive:<worker>, processing:<worker>  ARGV: worker, '1' where its last pop has certainly ended
_LEAVE = """
redis.call('DEL', KEYS[2])
if ARGV[2] == '1' and redis.call('EXISTS', KEYS[3]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
"""

# KEYS: queue, processing:<worker>  ARGV: body
_GIVE_BACK = """
if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 1 then redis.call('LPUSH', KEYS[1], ARGV[1]) end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliableList:
    """Jobs in the list `key`; a worker moves each to a processing list of its own, and `ack` removes it from there.

        jobs = ReliableList("jobs")
        with jobs.bind(client) as worker:
            while True:                      # until Stopped
                job = worker.get()
                handle(job.body)
                worker.ack(job)

    Guarantee: *at least once*, first in first out but for recovered jobs, which come first. A job is never in no list.

    - A worker that dies: its jobs are given back once its heartbeat has expired (`lease_seconds` after the last;
      renewed in the background three times as often, also while a job is being worked on). Workers look for the dead by
      themselves; `recover` does it at once. A living worker is never robbed; one that slept longer than its lease
      counts as dead: its job is done twice, and its `ack` returns False.
    - A reply that was lost: the job lies in the worker's own processing list, and its next `get` finds it there.
    - Equal bodies are told apart only by number: put an id in the body if that matters.

    Names of workers must differ among those alive at one time (the default does); a worker that comes back under its
    old name finds its jobs at once. Keys beside `key`: see `steps.beside`. Needs Redis 6.2.
    """

    key: str = field(kw_only=False)
    lease_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.lease_seconds < 0.03:
            raise ValueError(f"lease_seconds={self.lease_seconds}: at least 0.03, or a living worker may seem dead")

    @overload
    def bind(self, client: redis.Redis, /, worker: str | None = None) -> BoundQueue: ...
    @overload
    def bind(self, client: redis.asyncio.Redis, /, worker: str | None = None) -> AsyncBoundQueue: ...
    def bind(self, client: Any, /, worker: str | None = None) -> Any:
        """A worker's end of this queue, named `worker` (by default unlike any other)."""
        return attach(self, ReliableListEndpoint(self, worker_name(worker)), client)


class ReliableListEndpoint:
    """The logic of one worker, without IO."""

    def __init__(self, queue: ReliableList, worker: str, clock: Callable[[], float] = lambda: time.monotonic()) -> None:
        self._key = queue.key
        self._lease_seconds = queue.lease_seconds
        self.beat_seconds: float | None = queue.lease_seconds / 3
        self._worker = worker
        self._clock = clock
        self._workers = beside(self._key, "workers")
        self._alive, self._processing = self._keys_of(worker)
        self._slice_seconds = queue.lease_seconds / 3
        self._in_hand: list[bytes] = []
        self._in_doubt = True  # our processing list may hold what we were not told of
        self._doubt_ends = float("-inf")
        self._recover_at = float("-inf")

    def put(self, body: bytes) -> Steps[str | None]:
        yield command("RPUSH", self._key, body)
        return None

    def subscribe(self) -> Steps[None]:
        return nothing(None)

    def get(self, timeout_seconds: float | None) -> Steps[Delivery | None]:
        deadline = None if timeout_seconds is None else self._clock() + timeout_seconds
        while True:
            body = yield from self._look_around()
            if body is None:
                body = yield from self._move(deadline)
            if body is not None:
                self._in_hand.append(body)
                return Delivery(body=body, source=self._key)
            if deadline is not None and self._clock() >= deadline:
                return None

    def _look_around(self) -> Steps[bytes | None]:
        """Say that we live, before anything is ours; recover the dead if it is time; find what we were not told of."""
        if self._clock() >= self._recover_at:
            yield from self.beat()
            yield from self.recover()
            self._recover_at = self._clock() + self._slice_seconds
        if not self._in_doubt:
            return None
        known = Counter(self._in_hand)  # before we look: an `ack` in between may make us miss one, never invent one
        held: list[bytes] = yield command("LRANGE", self._processing, 0, -1)
        for body in Counter(held) - known:
            return body
        self._in_doubt = self._clock() < self._doubt_ends
        return None

    def _move(self, deadline: float | None) -> Steps[bytes | None]:
        left = math.inf if deadline is None else deadline - self._clock()
        slice_seconds = min(left, self._slice_seconds)
        args = (self._key, self._processing, "LEFT", "RIGHT")
        try:
            if slice_seconds <= 0:
                body = yield command("LMOVE", *args)
            else:
                body = yield RedisCommand(("BLMOVE", *args, redis_timeout(slice_seconds)), slice_seconds)
        except Stopped:  # before the command was sent
            raise
        except BaseException:
            self._doubt()
            raise
        return None if body is None else bytes(body)

    def _doubt(self) -> None:
        """A server may carry out the command of a dead connection, for as long as it may block."""
        self._in_doubt, self._doubt_ends = True, self._clock() + self._slice_seconds

    def ack(self, delivery: Delivery) -> Steps[bool]:
        try:
            removed = yield command("LREM", self._processing, 1, delivery.body)
        except BaseException:  # if it was not carried out, the job is delivered again
            self._doubt()
            raise
        finally:
            self._let_go(delivery.body)
        return bool(removed)

    def give_back(self, delivery: Delivery) -> Steps[None]:
        yield from run_script(_GIVE_BACK, (self._key, self._processing), (delivery.body,))
        self._let_go(delivery.body)

    def _let_go(self, body: bytes) -> None:
        with contextlib.suppress(ValueError):
            self._in_hand.remove(body)

    def recover(self) -> Steps[int]:
        total = 0
        workers = yield from self._known_workers()
        while workers:
            keys = [key for worker in workers for key in self._keys_of(worker)]
            moved = yield from run_script(
                _RECOVER, (self._key, self._workers, *keys), (_FORGET_AFTER_SECONDS, *workers)
            )
            total += moved
            if moved < 1000:
                break
        return total

    def remaining(self) -> Steps[list[bytes]]:
        bodies: list[bytes] = yield command("LRANGE", self._key, 0, -1)
        return bodies

    def pending(self) -> Steps[list[bytes]]:
        bodies: list[bytes] = []
        for worker in (yield from self._known_workers()):
            bodies += yield command("LRANGE", self._keys_of(worker)[1], 0, -1)
        return bodies

    def trimmed(self) -> Steps[list[Gap]]:
        return nothing([])

    def beat(self) -> Steps[None]:
        lease_ms = int(self._lease_seconds * 1000)
        yield from run_script(_BEAT, (self._workers, self._alive), (self._worker, lease_ms))

    def leave(self) -> Steps[None]:
        ended = "0" if self._in_doubt else "1"
        yield from run_script(_LEAVE, (self._workers, self._alive, self._processing), (self._worker, ended))

    def _known_workers(self) -> Steps[list[str]]:
        names = yield command("ZRANGE", self._workers, 0, -1)
        return [name.decode() for name in names]

    def _keys_of(self, worker: str) -> tuple[str, str]:
        return beside(self._key, f"alive:{worker}"), beside(self._key, f"processing:{worker}")
