"""A stream whose consumers share the work: XREADGROUP, XACK, XAUTOCLAIM and a dead-letter stream. At least once."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, overload

import redis
import redis.asyncio
from redis.exceptions import ResponseError

from pytest_redisq.queues.bound import AsyncBoundQueue, BoundQueue, attach
from pytest_redisq.queues.protocol import Delivery, Gap, Stopped
from pytest_redisq.queues.steps import RedisCommand, Steps, beside, command, nothing, run_script, worker_name
from pytest_redisq.queues.stream import Entry, add_entry, decoded, delivery_of, entries_after

#: How many entries are asked for at once where they are not new ones, which come singly so that idle workers get them.
_PAGE = 100

# KEYS: stream  ARGV: group, consumer, ids…   Makes what is still ours look fresh, without counting it as a delivery.
_REFRESH = """
for i = 3, #ARGV do
  local mine = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if #mine == 1 then redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID') end
end
"""

# KEYS: stream, dead letters  ARGV: group, consumer, id, deliveries, then the entry's fields
# Out of the one and into the other in one step, and only where it is still ours: never parked twice, never in neither.
_PARK = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', 'parked_id', ARGV[3], 'parked_deliveries', ARGV[4], unpack(ARGV, 5))
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
"""

# KEYS: stream  ARGV: group, consumer   DELCONSUMER throws away what is pending, so only where nothing is.
_LEAVE = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamGroup:
    """The stream `key`, shared by the consumers of `group`: each entry goes to one, and stays pending until its `ack`.

        orders = StreamGroup("orders", "billing")
        with orders.bind(client) as worker:
            order = worker.get()
            worker.ack(order)

    Guarantee: *at least once*.

    - A consumer that dies: what it held for `claim_idle_seconds` is claimed by the others, busy or idle: a blocked read
      is cut into slices of a third of that. What a living consumer holds is refreshed as often, however long the work
      takes.
    - A reply that was lost, a worker restarted under its old name: its own pending entries are read again first.
    - Poison: an entry is handed out at most `max_deliveries` times (`Delivery.delivery_count` says which), and then
      moved to the stream `dead_letters` (by default beside `key`), with its fields, `parked_id`, `parked_deliveries`.
    - An entry that was trimmed while pending cannot be delivered: it is dropped from the pending list and reported as a
      Gap.
    - `close` removes the consumer only if nothing is pending for it.

    `start`: where a group that does not exist yet begins, "0" (everything that is there) or "$" or an id; the group
    is made by `subscribe` or the first `get`. Needs Redis 6.2; trimmed entries are noticed from 7.0 on.
    """

    key: str = field(kw_only=False)
    group: str = field(kw_only=False)
    start: str = "0"
    field: str = "body"
    maxlen: int | None = None
    approximate: bool = True
    claim_idle_seconds: float = 60.0
    max_deliveries: int = 5
    dead_letters: str | None = None

    def __post_init__(self) -> None:
        if self.claim_idle_seconds < 0.03:
            raise ValueError(f"claim_idle_seconds={self.claim_idle_seconds}: at least 0.03, or the living are robbed")
        if self.max_deliveries < 1:
            raise ValueError(f"max_deliveries={self.max_deliveries}: at least 1, or nothing is ever delivered")

    @overload
    def bind(self, client: redis.Redis, /, worker: str | None = None) -> BoundQueue: ...
    @overload
    def bind(self, client: redis.asyncio.Redis, /, worker: str | None = None) -> AsyncBoundQueue: ...
    def bind(self, client: Any, /, worker: str | None = None) -> Any:
        """A consumer of the group, named `worker` (by default unlike any other)."""
        return attach(self, StreamGroupEndpoint(self, worker_name(worker)), client)


class StreamGroupEndpoint:
    """The logic of one consumer, without IO."""

    def __init__(self, queue: StreamGroup, worker: str, clock: Callable[[], float] = lambda: time.monotonic()) -> None:
        self._queue = queue
        self._key, self._group, self._worker = queue.key, queue.group, worker
        self._dead_letters = queue.dead_letters or beside(queue.key, "dead")
        self._slice_seconds = queue.claim_idle_seconds / 3
        self.beat_seconds: float | None = self._slice_seconds
        self._clock = clock
        self._subscribed = False
        self._in_doubt = True  # entries may be pending for us that we were not told of
        self._own_after = "0-0"
        self._claim_at = float("-inf")
        self._in_hand: set[str] = set()
        self._again: deque[Entry] = deque()
        self._gaps: list[Gap] = []

    def put(self, body: bytes) -> Steps[str | None]:
        queue = self._queue
        entry_id = yield add_entry(self._key, queue.field, body, queue.maxlen, queue.approximate)
        return str(entry_id.decode())

    def subscribe(self) -> Steps[None]:
        if self._subscribed:
            return
        try:
            yield command("XGROUP", "CREATE", self._key, self._group, self._queue.start, "MKSTREAM")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._subscribed = True

    def get(self, timeout_seconds: float | None) -> Steps[Delivery | None]:
        try:
            yield from self.subscribe()
            return (yield from self._get(timeout_seconds))
        except Stopped:  # before anything was sent
            raise
        except BaseException:  # perhaps an entry was delivered to us, perhaps the group is gone
            self._in_doubt, self._own_after, self._subscribed = True, "0-0", False
            raise

    def _get(self, timeout_seconds: float | None) -> Steps[Delivery | None]:
        deadline = None if timeout_seconds is None else self._clock() + timeout_seconds
        while True:
            delivery = yield from self._old()
            if delivery is None:
                delivery = yield from self._new(deadline)
            if delivery is not None:
                return delivery
            if deadline is not None and self._clock() >= deadline:
                return None

    def _old(self) -> Steps[Delivery | None]:
        """What was delivered before and not dealt with: first our own, then what the dead left."""
        while True:
            if self._again:
                delivery = yield from self._redeliver(*self._again.popleft())
                if delivery is not None:
                    return delivery
            elif self._in_doubt:
                yield from self._read_own()
            elif self._clock() >= self._claim_at:
                yield from self.recover()
            else:
                return None

    def _read_own(self) -> Steps[None]:
        reply = yield command("XREADGROUP", *self._us(), "COUNT", _PAGE, "STREAMS", self._key, self._own_after)
        page = decoded(reply[0][1]) if reply else []
        yield from self._take_again(page)
        self._in_doubt = len(page) == _PAGE
        self._own_after = page[-1][0] if self._in_doubt else "0-0"

    def _new(self, deadline: float | None) -> Steps[Delivery | None]:
        left = math.inf if deadline is None else deadline - self._clock()
        slice_seconds = max(0.0, min(left, self._slice_seconds))
        block = ("BLOCK", max(1, math.ceil(slice_seconds * 1000))) if slice_seconds else ()
        read = ("XREADGROUP", *self._us(), "COUNT", 1, *block, "STREAMS", self._key, ">")
        reply = yield RedisCommand(read, slice_seconds)
        if not reply:
            return None
        entry_id, fields = decoded(reply[0][1])[0]
        return self._hand_out(entry_id, fields, 1)

    def _redeliver(self, entry_id: str, fields: list[bytes]) -> Steps[Delivery | None]:
        held = yield command("XPENDING", self._key, self._group, entry_id, entry_id, 1, self._worker)
        if not held:  # claimed by another since
            return None
        count = int(held[0][3])
        if count <= self._queue.max_deliveries:
            return self._hand_out(entry_id, fields, count)
        keys = (self._key, self._dead_letters)
        yield from run_script(_PARK, keys, (self._group, self._worker, entry_id, count - 1, *fields))
        return None

    def _hand_out(self, entry_id: str, fields: list[bytes], count: int) -> Delivery:
        delivery = delivery_of(self._key, self._queue.field, entry_id, fields, count)
        self._in_hand.add(entry_id)
        return delivery

    def _take_again(self, entries: list[Entry]) -> Steps[None]:
        """Queue entries for another delivery; those whose fields are gone were trimmed: drop and report them."""
        waiting = {entry_id for entry_id, _ in self._again} | self._in_hand
        for entry_id, fields in entries:
            if fields is None:
                yield from self._drop(entry_id)
            elif entry_id not in waiting:
                self._again.append((entry_id, fields))

    def _drop(self, entry_id: str) -> Steps[None]:
        if (yield command("XACK", self._key, self._group, entry_id)):
            self._gaps.append(Gap(after_id=entry_id, before_id=entry_id, entries=1, exact=True))

    def ack(self, delivery: Delivery) -> Steps[bool]:
        acked = yield command("XACK", self._key, self._group, delivery.id or "")
        self._in_hand.discard(delivery.id or "")
        return bool(acked)

    def give_back(self, delivery: Delivery) -> Steps[None]:
        """Do nothing: another consumer claims the entry once it has been idle long enough."""
        self._in_hand.discard(delivery.id or "")
        return nothing(None)

    def recover(self) -> Steps[int]:
        """Claim what the dead held; it is what our next `get`s return. Returns how many."""
        yield from self.subscribe()
        idle_ms, cursor, before = int(self._queue.claim_idle_seconds * 1000), "0-0", len(self._again)
        while True:
            claim = ("XAUTOCLAIM", self._key, self._group, self._worker, idle_ms, cursor, "COUNT", _PAGE)
            reply = yield command(*claim)
            yield from self._take_again(decoded([entry for entry in reply[1] if entry is not None]))
            for entry_id in reply[2] if len(reply) > 2 else []:
                self._gaps.append(Gap(after_id=entry_id.decode(), before_id=entry_id.decode(), entries=1, exact=True))
            cursor = reply[0].decode()
            if cursor == "0-0" or len(self._again) >= _PAGE:
                break
        # Where there is more to claim, it is due as soon as this has been handed out.
        self._claim_at = self._clock() + (self._slice_seconds if cursor == "0-0" else 0)
        return len(self._again) - before

    def remaining(self) -> Steps[list[bytes]]:
        """What the group has not delivered to anybody yet."""
        yield from self.subscribe()
        groups = yield command("XINFO", "GROUPS", self._key)
        last = next(
            g for g in (dict(zip(i[::2], i[1::2], strict=True)) for i in groups) if g[b"name"] == self._group.encode()
        )
        entries = yield from entries_after(self._key, last[b"last-delivered-id"].decode())
        return [delivery_of(self._key, self._queue.field, *entry).body for entry in entries]

    def pending(self) -> Steps[list[bytes]]:
        """What was delivered to anybody of the group and not acknowledged; entries trimmed since have no body to
        show.
        """
        yield from self.subscribe()
        bodies: list[bytes] = []
        start = "-"
        while True:
            page = yield command("XPENDING", self._key, self._group, start, "+", _PAGE)
            for entry_id, *_ in page:
                found = decoded((yield command("XRANGE", self._key, entry_id, entry_id)))
                bodies += [delivery_of(self._key, self._queue.field, *entry).body for entry in found]
            if len(page) < _PAGE:
                return bodies
            start = f"({page[-1][0].decode()}"

    def trimmed(self) -> Steps[list[Gap]]:
        return nothing(list(self._gaps))

    def beat(self) -> Steps[None]:
        if held := tuple(self._in_hand.copy()):
            yield from run_script(_REFRESH, (self._key,), (self._group, self._worker, *held))

    def leave(self) -> Steps[None]:
        if self._subscribed and not self._in_doubt:
            yield from run_script(_LEAVE, (self._key,), (self._group, self._worker))

    def _us(self) -> tuple[str, str, str]:
        return "GROUP", self._group, self._worker
