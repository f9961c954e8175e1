"""A job queue on Redis lists that survives the death of workers: BLMOVE, ack, heartbeat, recovery. At least once."""

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

#: Seconds after its last heartbeat until a dead worker's name is removed. Not earlier: the worker may only have been
#: suspended, and its blocked BLMOVE may still move a job to its processing list. Recovery must then look there.
_FORGET_AFTER_SECONDS = 86_400

# KEYS: workers (zset: name -> server time of its last heartbeat, s), alive:<worker> (expires)  ARGV: worker, lease ms
_BEAT = """
redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[1])
redis.call('SET', KEYS[2], '', 'PX', ARGV[2])
"""

# KEYS: queue, workers, then for each worker: alive, processing  ARGV: forget-after s, then the workers
# A worker is dead if its heartbeat has expired. The check and the move are one step: jobs of a living worker are never
# moved, and two recoverers share the jobs. The newest job goes to the head first, so that the oldest is served first.
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

# KEYS: workers, alive:<worker>, processing:<worker>  ARGV: worker, '1' if its last pop has certainly ended
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
    """Jobs in the list `key`. A worker moves each job to its own processing list, and `ack` removes it from there.

        jobs = ReliableList("jobs")
        with jobs.bind(client) as worker:
            while True:                      # until Stopped
                job = worker.get()
                handle(job.body)
                worker.ack(job)

    Guarantee: *at least once*, first in first out, except that recovered jobs come first. A job is always in one of the
    lists.

    - If a worker dies, its jobs return to the queue when its heartbeat has expired. The heartbeat is renewed in the
      background, also during the work. The other workers look for dead workers regularly; `recover` does it at once.
    - A worker that was suspended for longer than its lease counts as dead. Its job is done twice, and its `ack` returns
      False. The jobs of a living worker are never taken away.
    - If a reply was lost, the job is in the worker's processing list. The worker's next `get` finds it there.
    - Equal bodies are only counted. Put an id into the body if it matters which of them was done.

    Parameters:

    * `key`: the list. Private keys start with this name: see `steps.beside`.
    * `lease_seconds`: how long a heartbeat is valid, at least 0.03; default 30. It is renewed after a third of that.

    Workers that are alive at the same time need different names, as they have by default. A worker that restarts under
    its old name finds its jobs at once. Needs Redis 6.2.
    """

    key: str = field(kw_only=False)
    lease_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.lease_seconds < 0.03:
            raise ValueError(
                f"lease_seconds={self.lease_seconds} must be at least 0.03, or a living worker may count as dead"
            )

    @overload
    def bind(self, client: redis.Redis, /, worker: str | None = None) -> BoundQueue: ...
    @overload
    def bind(self, client: redis.asyncio.Redis, /, worker: str | None = None) -> AsyncBoundQueue: ...
    def bind(self, client: Any, /, worker: str | None = None) -> Any:
        """This queue on `client`, for the worker of that name; default: a unique name."""
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
        self._in_doubt = True  # the processing list may hold a job whose reply was lost
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
        """Renew the heartbeat, recover jobs of dead workers if due, and look for a job whose reply was lost.

        The heartbeat comes first: a worker without one counts as dead as soon as it holds a job.
        """
        if self._clock() >= self._recover_at:
            yield from self.beat()
            yield from self.recover()
            self._recover_at = self._clock() + self._slice_seconds
        if not self._in_doubt:
            return None
        # Counted before the list is read: an `ack` in between may then hide a job, but never deliver one again.
        known = Counter(self._in_hand)
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
        """A blocked command of a broken connection may still move a job, until its timeout."""
        self._in_doubt, self._doubt_ends = True, self._clock() + self._slice_seconds

    def ack(self, delivery: Delivery) -> Steps[bool]:
        try:
            removed = yield command("LREM", self._processing, 1, delivery.body)
        except BaseException:  # if the command had no effect, the job must be delivered again
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
