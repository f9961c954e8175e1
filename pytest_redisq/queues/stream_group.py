"""A stream shared by the consumers of a group: XREADGROUP, XACK, XAUTOCLAIM, a dead-letter stream. At least once."""

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

#: The most entries read at once, except new ones: those are read one at a time, so that idle workers get the next.
_PAGE = 100

# KEYS: stream  ARGV: group, consumer, ids…
# Resets the idle time of entries that are still pending for this consumer, without counting a delivery.
_REFRESH = """
for i = 3, #ARGV do
  local mine = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if #mine == 1 then redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID') end
end
"""

# KEYS: stream, dead letters  ARGV: group, consumer, id, deliveries, then the entry's fields
# Moves the entry in one step, and only if it is still pending for this consumer. So it is parked once, and always in
# one of the two streams.
_PARK = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', 'parked_id', ARGV[3], 'parked_deliveries', ARGV[4], unpack(ARGV, 5))
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
"""

# KEYS: stream  ARGV: group, consumer
# DELCONSUMER also drops the consumer's pending entries, so it is only called if there are none.
_LEAVE = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamGroup:
    """The stream `key`, shared by the consumers of `group`. An entry goes to one consumer, and is pending until `ack`.

        orders = StreamGroup("orders", "billing")
        with orders.bind(client) as worker:
            order = worker.get()
            worker.ack(order)

    Guarantee: *at least once*.

    - If a consumer dies, the other consumers claim its pending entries after `claim_idle_seconds`. Idle consumers do so
      too: a blocked read lasts at most a third of that time. A living consumer resets the idle time of its entries
      equally often, so the work may take any time.
    - If a reply was lost, or a worker restarts under its old name, it first reads its own pending entries again.
    - Poison messages: an entry is delivered at most `max_deliveries` times (see `Delivery.delivery_count`). Then it is
      moved to the stream `dead_letters`, with its fields, `parked_id` and `parked_deliveries`.
    - An entry that was trimmed while it was pending cannot be delivered. It is removed from the pending list and
      reported as a Gap.
    - `close` removes the consumer from the group only if it has no pending entries.

    Parameters:

    * `key`, `group`: the stream and the group. `subscribe` or the first `get` creates them if they do not exist.
    * `start`: where a new group starts: "0" (the oldest entry; default), "$" (later entries only), or an id.
    * `field`: the field of an entry that holds the body; default "body".
    * `maxlen`: `put` trims the stream to this length; default: no limit. With `approximate` (default) some more entries
      may be kept.
    * `claim_idle_seconds`: the idle time after which an entry may be claimed, at least 0.03; default 60.
    * `max_deliveries`: at least 1; default 5.
    * `dead_letters`: the stream for poison messages; default: a private key, see `steps.beside`.

    Needs Redis 6.2. Trimmed entries are noticed from 7.0 on.
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
            raise ValueError(
                f"claim_idle_seconds={self.claim_idle_seconds} must be at least 0.03, or entries of living consumers "
                "may be claimed"
            )
        if self.max_deliveries < 1:
            raise ValueError(f"max_deliveries={self.max_deliveries} must be at least 1, or no message is delivered")

    @overload
    def bind(self, client: redis.Redis, /, worker: str | None = None) -> BoundQueue: ...
    @overload
    def bind(self, client: redis.asyncio.Redis, /, worker: str | None = None) -> AsyncBoundQueue: ...
    def bind(self, client: Any, /, worker: str | None = None) -> Any:
        """A consumer of the group with the name `worker`; default: a unique name."""
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
        self._in_doubt = True  # entries may be pending for this consumer that it has not received
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
        except Stopped:  # before the command was sent
            raise
        except BaseException:  # an entry may be pending for this consumer, or the group may be gone
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
        """An entry that was delivered before and is pending: first this consumer's own, then a dead consumer's."""
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
        if not held:  # another consumer has claimed it since
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
        """Queue entries for another delivery. Entries without fields were trimmed: drop and report them."""
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
        """Forget the message. A consumer claims the entry after `claim_idle_seconds`."""
        self._in_hand.discard(delivery.id or "")
        return nothing(None)

    def recover(self) -> Steps[int]:
        """Claim the entries of dead consumers, which the next `get`s return. Returns their number."""
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
        # If there is more to claim, claim it as soon as these entries are delivered.
        self._claim_at = self._clock() + (self._slice_seconds if cursor == "0-0" else 0)
        return len(self._again) - before

    def remaining(self) -> Steps[list[bytes]]:
        """The bodies that the group has not delivered to a consumer yet."""
        yield from self.subscribe()
        groups = yield command("XINFO", "GROUPS", self._key)
        last = next(
            g for g in (dict(zip(i[::2], i[1::2], strict=True)) for i in groups) if g[b"name"] == self._group.encode()
        )
        entries = yield from entries_after(self._key, last[b"last-delivered-id"].decode())
        return [delivery_of(self._key, self._queue.field, *entry).body for entry in entries]

    def pending(self) -> Steps[list[bytes]]:
        """The bodies of the group's pending entries, of all consumers, except entries that were trimmed since."""
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
