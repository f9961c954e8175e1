"""The logic of draining a list of any length in chunks, with constant memory on both sides; without IO.

1. The drainer *claims* the whole list: one RENAME to a private key, in one step for any length, without a copy.
   Elements pushed later make a new list under the old name. A second drainer finds only those.
2. It reads the claim from its head (LRANGE), and trims it (LTRIM) after each chunk has been handled.
3. If a drainer dies, the next drainer finishes its claim.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pytest_redisq.errors import RedisqError
from pytest_redisq.queues.steps import RedisCommand, Steps, beside, command, run_script, script_command

#: The most bytes of a chunk: with large elements a chunk has fewer of them. The server does nothing else while it
#: copies a chunk: 6 ms for 4 MiB of 1 KB elements.
CHUNK_BYTES = 2**20

# KEYS: list, registry (hash: claim -> state), claim, lease  ARGV: claim, owner, lease ms, state
# A repeated call, after a lost reply, finds its claim, which it must not overwrite. -1: another drainer has taken it.
# PERSIST: a claimed list must not expire.
_CLAIM = """
local owner = redis.call('GET', KEYS[4])
if redis.call('EXISTS', KEYS[3]) == 1 then
  if owner and owner ~= ARGV[2] then return -1 end
else
  local kind = redis.call('TYPE', KEYS[1]).ok
  if kind == 'none' then return 0 end
  if kind ~= 'list' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is a ' .. kind .. ', and only a list can be drained')
  end
  redis.call('RENAME', KEYS[1], KEYS[3])
  redis.call('PERSIST', KEYS[3])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
end
redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[3])
return redis.call('LLEN', KEYS[3])
"""

# KEYS: registry, claim, lease  ARGV: claim, owner, lease ms, '1' if the owner is known to be dead
_ADOPT = """
local owner = redis.call('GET', KEYS[3])
if owner and owner ~= ARGV[2] and ARGV[4] ~= '1' then return 0 end
local length = redis.call('LLEN', KEYS[2])
if length == 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[3])
else
  redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
end
return length
"""

# KEYS: registry, claim, lease  ARGV: claim, owner, lease ms, the length to keep, state
# It trims to a length, not by a number, so that repeating it has no effect. -1: another drainer has taken the claim.
_COMMIT = """
local owner = redis.call('GET', KEYS[3])
if owner and owner ~= ARGV[2] then return -1 end
local excess = redis.call('LLEN', KEYS[2]) - ARGV[4]
if excess < 0 then return -1 end
if excess > 0 then redis.call('LTRIM', KEYS[2], excess, -1) end
if ARGV[4] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[3])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
  redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
end
return 0
"""

# KEYS: lease  ARGV: owner
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

# KEYS: list  ARGV: count   For servers before 6.2, whose LPOP takes no count.
_POP = """
local elements = redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)
redis.call('LTRIM', KEYS[1], ARGV[1], -1)
return elements
"""


@dataclass(slots=True, kw_only=True)
class Claim:
    """The rest of a list that was claimed.

    * `name`: the claim's name.
    * `length`: its elements.
    * `state`: the note of its last owner.
    * `average_bytes`: the average size of an element.
    """

    name: str
    length: int
    state: str
    average_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedDrain:
    """Elements that a drain has claimed and not drained yet.

    * `key`: the list.
    * `claim`: the claim's name.
    * `elements`: how many.
    * `lease_seconds`: time until the next drain of the list may take them over; 0: it may now.
    * `holder`: where the drain writes to, as far as known.
    """

    key: str
    claim: str
    elements: int
    lease_seconds: float
    holder: str

    def __str__(self) -> str:
        until = f"for {self.lease_seconds:.0f} s more, and longer if it goes on" if self.lease_seconds else "no longer"
        return f"{self.elements:,} elements of {self.key!r} are held by {self.holder}, {until} (claim {self.claim})"


class Reading(NamedTuple):
    """A command that reads `elements` elements."""

    command: RedisCommand
    elements: int


class Measured(NamedTuple):
    """A list's length, whether LPOP takes a count on this server, and the average size of an element."""

    length: int
    pops: bool
    average_bytes: float


class Drainer:
    """The logic of one drainer, without IO. Each step may be repeated, so a lost reply is requested again.

    * `key`: the list.
    * `chunk`: the most elements of a chunk, at least 1.
    * `lease_seconds`: how long a claim is protected after the last chunk, at least 0.01.
    * `owner`: the drainer's name; default: a random one.
    """

    def __init__(self, key: str, *, chunk: int, lease_seconds: float, owner: str | None = None) -> None:
        if chunk < 1:
            raise ValueError(f"chunk={chunk} must be at least 1")
        if lease_seconds < 0.01:
            raise ValueError(f"lease_seconds={lease_seconds} must be at least 0.01, or the claim expires during a read")
        self.key = key
        self._chunk = chunk
        self._lease_ms = int(lease_seconds * 1000)
        self._owner = owner or secrets.token_hex(8)
        self._registry = beside(key, "drains")
        self._held: Claim | None = None
        self._claimed_all = False
        self._refused = False

    def left_behind(self) -> Steps[dict[str, str]]:
        """The unfinished claims of all drainers and their owners' notes, the oldest first."""
        flat = yield from _again(command("HGETALL", self._registry))
        states = dict(zip(flat[::2], flat[1::2], strict=True))
        return {name.decode(): states[name].decode() for name in sorted(states)}

    def adopt(self, name: str, state: str, *, owner_is_dead: bool = False) -> Steps[Claim | None]:
        """Take over a claim if its lease has expired, or its owner is known to be dead.

        Returns the claim, or None if it is still leased or nothing of it is left.
        """
        keys = (self._registry, self.list_of(name), self._lease_of(name))
        args = (name, self._owner, self._lease_ms, int(owner_is_dead))
        length = yield from _script_again(_ADOPT, keys, args)
        return (yield from self._hold(name, length, state))

    def new_name(self) -> Steps[str]:
        """A name for the next claim. Names sort by the time when they were created."""
        seconds, microseconds = yield from _again(command("TIME"))
        return f"{int(seconds):012d}{int(microseconds):06d}-{self._owner}"

    def claim(self, state: str = "", *, name: str | None = None) -> Steps[Claim | None]:
        """Claim all elements that are in the list now. Returns the claim, or None if the list is empty.

        `name`: the claim's name, from `new_name`; default: a new one. Raises RedisqError if another drainer has taken
        the claim over before the reply came.
        """
        name = name or (yield from self.new_name())
        keys = (self.key, self._registry, self.list_of(name), self._lease_of(name))
        length = yield from _script_again(_CLAIM, keys, (name, self._owner, self._lease_ms, state))
        self.check_kept(length)
        return (yield from self._hold(name, length, state))

    def next_claim(self) -> Steps[Claim | None]:
        """The next claim: first those of dead drainers, then once the list itself. None: all is drained."""
        if self._claimed_all:
            return None
        for name, state in (yield from self.left_behind()).items():
            adopted = yield from self.adopt(name, state)
            if adopted is not None:
                return adopted
            self._refused = True
        self._claimed_all = True
        return (yield from self.claim())

    def passed_over(self) -> Steps[tuple[UnfinishedDrain, ...]]:
        """`unfinished`, requested only if there may be some: a claim was refused, or the list was gone."""
        if self._refused or self._held is None:
            return (yield from self.unfinished())
        return ()

    def unfinished(self) -> Steps[tuple[UnfinishedDrain, ...]]:
        """The unfinished claims, the oldest first: those of other drainers, before this one's first and after its last.

        If the server loses its last writes, a claim that was finished may be among them again.
        """
        found = []
        for name, state in (yield from self.left_behind()).items():
            left_ms = yield from _again(command("PTTL", self._lease_of(name)))
            elements = yield from _again(command("LLEN", self.list_of(name)))
            if elements:
                held = UnfinishedDrain(
                    key=self.key,
                    claim=name,
                    elements=elements,
                    lease_seconds=max(0, left_ms) / 1000,
                    holder=_holder(noted(state)),
                )
                found.append(held)
        return tuple(found)

    def read(self, claim: Claim, skip: int = 0) -> Steps[list[bytes]]:
        """The next chunk after the first `skip` elements; empty at the end. `commit` removes it from the claim."""
        if claim.length <= skip:
            return []
        reading = self.reading(claim, skip=skip)
        return self.accept(claim, (yield from _again(reading.command)), reading.elements)

    def reading(self, claim: Claim, *, skip: int) -> Reading:
        """The command that reads a chunk after the first `skip` elements; its reply goes to `accept`.

        It counts from the claim's end, which no commit moves. If a server crashes and loses the last commits, the same
        command still reads the same elements.
        """
        ahead = claim.length - skip
        count = fitting(min(self._chunk, ahead), claim.average_bytes)
        return Reading(command("LRANGE", self.list_of(claim.name), -ahead, count - ahead - 1), count)

    def accept(self, claim: Claim, elements: list[bytes], expected: int) -> list[bytes]:
        """The received chunk. Raises RedisqError if it has not as many elements as `expected`: the claim is shorter,
        because another drainer has taken it over, or the server has lost it.
        """
        if len(elements) != expected:
            raise _lost(self.key)
        claim.average_bytes = average_bytes(elements)
        return elements

    def commit(self, claim: Claim, done: int, state: str = "") -> Steps[None]:
        """Remove the first `done` elements, which have been handled, and note `state` in the same step."""
        self.check_kept((yield from _script_again(_COMMIT, *self._commit_arguments(claim, done, state))))
        claim.length, claim.state = claim.length - done, state

    def committing(self, claim: Claim, done: int, state: str = "") -> RedisCommand:
        """The command that commits if the server has the script cached. Its reply goes to `check_kept`."""
        return script_command(_COMMIT, *self._commit_arguments(claim, done, state))

    def check_kept(self, reply: int) -> None:
        """Raises RedisqError if the reply to a claim or commit says that another drainer has taken the claim over."""
        if reply < 0:
            raise _lost(self.key)

    def _commit_arguments(self, claim: Claim, done: int, state: str) -> tuple[tuple[str, ...], tuple[str | int, ...]]:
        keys = (self._registry, self.list_of(claim.name), self._lease_of(claim.name))
        return keys, (claim.name, self._owner, self._lease_ms, claim.length - done, state)

    def release(self) -> Steps[None]:
        """Release the claim: the next drainer may take over the rest at once."""
        if self._held is not None:
            yield from run_script(_RELEASE, (self._lease_of(self._held.name),), (self._owner,))

    def _hold(self, name: str, length: int, state: str) -> Steps[Claim | None]:
        if length == 0:
            return None
        usage = yield from _again(command("MEMORY", "USAGE", self.list_of(name), "SAMPLES", 20))
        self._held = Claim(name=name, length=length, state=state, average_bytes=max(1.0, (usage or 0) / length))
        return self._held

    def list_of(self, name: str) -> str:
        return beside(self.key, f"drain:{name}")

    def _lease_of(self, name: str) -> str:
        return beside(self.key, f"drain-lease:{name}")


def noted(state: str) -> dict[str, Any]:
    """A drain's note as a dict; empty if it has another format."""
    try:
        value = json.loads(state)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _holder(note: dict[str, Any]) -> str:
    if "path" not in note:
        return "another drain"
    process = f", process {note['process']}" if "process" in note else ""
    return f"a drain to {note['path']} (host {note.get('host', 'unknown')}{process})"


def measure(key: str) -> Steps[Measured]:
    """Measure the list before a drain by pops."""
    left = yield command("LLEN", key)
    info = yield command("COMMAND", "INFO", "LPOP")
    usage = (yield command("MEMORY", "USAGE", key, "SAMPLES", 20)) if left else 0
    return Measured(int(left), int(info[0][1]) < 0, max(1.0, (usage or 0) / (left or 1)))


def pop(key: str, count: int, pops: bool) -> Steps[list[bytes]]:
    """Pop up to `count` elements from the head. `pops`: whether LPOP takes a count, as measured."""
    elements: list[bytes] | None
    if pops:
        elements = yield command("LPOP", key, count)
    else:
        elements = yield from run_script(_POP, (key,), (count,))
    return elements or []


def fitting(chunk: int, average: float) -> int:
    """How many elements to read at once: at least 1, at most `chunk`, and at most CHUNK_BYTES in all.

    `average`: the size of an element, in bytes.

    >>> fitting(10_000, 100.0), fitting(10_000, 2.0**20)
    (10000, 1)
    """
    return max(1, min(chunk, int(CHUNK_BYTES / average)))


def average_bytes(elements: list[bytes]) -> float:
    """The average size of an element, in bytes, from a sample of a hundred."""
    sample = elements[:: 1 + len(elements) // 100]
    return max(1.0, sum(map(len, sample)) / len(sample))


def _again(step: RedisCommand) -> Steps[Any]:
    """Repeat a command once if the connection broke: only for commands that may be done twice."""
    try:
        return (yield step)
    except (RedisConnectionError, RedisTimeoutError):
        return (yield step)


def _script_again(source: str, keys: tuple[str, ...], args: tuple[str | int, ...]) -> Steps[Any]:
    try:
        return (yield from run_script(source, keys, args))
    except (RedisConnectionError, RedisTimeoutError):
        return (yield from run_script(source, keys, args))


def _lost(key: str) -> RedisqError:
    return RedisqError(
        f"another drainer has taken over the claim on {key!r}, because this one was silent for longer than its lease; "
        "or the server has lost its last writes, after a crash or a failover. Some elements may be drained twice.\n"
        "What to do: drain the list again. If no server crashed, set lease_seconds to more than the time for one chunk."
    )
