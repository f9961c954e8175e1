"""The logic of emptying a list of any length, a chunk at a time, with memory flat on both sides; without IO.

How: the whole list is *claimed* by one RENAME to a private key beside it: one step, whatever the length, nothing
copied. What is pushed from then on makes a new list under the old name, and a second drainer finds nothing, or only
that. The claim is then read from its head (LRANGE) and shortened (LTRIM) after each chunk has been dealt with. What a
drainer that died left of its claim is finished by the next one.
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

#: A chunk is cut short where its elements are so large that it would be bigger than this, in bytes: the server does
#: nothing else while it copies a chunk, of 1 KB elements some 6 ms for 4 MiB.
CHUNK_BYTES = 2**20

# KEYS: list, registry (hash: claim -> state), claim, lease  ARGV: claim, owner, lease ms, state
# The same call again, after a lost reply, finds the claim made. PERSIST: a list that was to expire may not do so in our
# hands.
_CLAIM = """
if redis.call('GET', KEYS[4]) ~= ARGV[2] then
  local kind = redis.call('TYPE', KEYS[1]).ok
  if kind == 'none' then return 0 end
  if kind ~= 'list' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is a ' .. kind .. ', and only a list can be drained')
  end
  redis.call('RENAME', KEYS[1], KEYS[3])
  redis.call('PERSIST', KEYS[3])
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
  redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[3])
end
return redis.call('LLEN', KEYS[3])
"""

# KEYS: registry, claim, lease  ARGV: claim, owner, lease ms, '1' where the owner is known to be dead
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

# KEYS: registry, claim, lease  ARGV: claim, owner, lease ms, length to be left, state
# To a length, not by a number: done twice it is done once. -1: somebody else has taken the claim over.
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

# KEYS: list  ARGV: count   For servers whose LPOP takes no count (before 6.2).
_POP = """
local elements = redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)
redis.call('LTRIM', KEYS[1], ARGV[1], -1)
return elements
"""


@dataclass(slots=True, kw_only=True)
class Claim:
    """What is left of a list that was claimed: `length` elements, from the head; `state` is what its last owner
    noted.
    """

    name: str
    length: int
    state: str
    average_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedDrain:
    """`elements` of the list `key` that a drain has claimed and not drained yet.

    `lease_seconds`: how long it still has to go on, before the next drain of the list may take them over; 0: any drain
    may. `holder` says where it drains to, as far as it is known.
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
    """A command that reads so many elements."""

    command: RedisCommand
    elements: int


class Measured(NamedTuple):
    """A list's length, whether LPOP takes a count there (its arity is then "at least"), and its elements' size."""

    length: int
    pops: bool
    average_bytes: float


class Drainer:
    """The logic of one drainer, without IO. Each of its steps may be done twice, so a lost reply is simply asked for
    again.
    """

    def __init__(self, key: str, *, chunk: int, lease_seconds: float, owner: str | None = None) -> None:
        if chunk < 1:
            raise ValueError(f"chunk={chunk}: at least one element at a time")
        if lease_seconds < 0.01:
            raise ValueError(f"lease_seconds={lease_seconds}: at least 0.01, or the claim is lost while it is read")
        self.key = key
        self._chunk = chunk
        self._lease_ms = int(lease_seconds * 1000)
        self._owner = owner or secrets.token_hex(8)
        self._registry = beside(key, "drains")
        self._held: Claim | None = None
        self._claimed_all = False
        self._refused = False

    def left_behind(self) -> Steps[dict[str, str]]:
        """The claims that are not finished, the oldest first, with what their owners noted; other drainers' too."""
        flat = yield from _again(command("HGETALL", self._registry))
        states = dict(zip(flat[::2], flat[1::2], strict=True))
        return {name.decode(): states[name].decode() for name in sorted(states)}

    def adopt(self, name: str, state: str, *, owner_is_dead: bool = False) -> Steps[Claim | None]:
        """Take over a claim whose owner's lease has run out, or is known to be dead; None: it has not, or nothing is
        left.
        """
        keys = (self._registry, self.list_of(name), self._lease_of(name))
        args = (name, self._owner, self._lease_ms, int(owner_is_dead))
        length = yield from _script_again(_ADOPT, keys, args)
        return (yield from self._hold(name, length, state))

    def new_name(self) -> Steps[str]:
        """A name for the next claim: names sort by the time at which they were given."""
        seconds, microseconds = yield from _again(command("TIME"))
        return f"{int(seconds):012d}{int(microseconds):06d}-{self._owner}"

    def claim(self, state: str = "", *, name: str | None = None) -> Steps[Claim | None]:
        """Claim all that is in the list now, under a name of `new_name`; None: there is nothing."""
        name = name or (yield from self.new_name())
        keys = (self.key, self._registry, self.list_of(name), self._lease_of(name))
        length = yield from _script_again(_CLAIM, keys, (name, self._owner, self._lease_ms, state))
        return (yield from self._hold(name, length, state))

    def next_claim(self) -> Steps[Claim | None]:
        """What was left behind, then once the list itself; None: all is drained."""
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
        """`unfinished`, asked only where there may be any: a claim was refused, or the list was gone."""
        if self._refused or self._held is None:
            return (yield from self.unfinished())
        return ()

    def unfinished(self) -> Steps[tuple[UnfinishedDrain, ...]]:
        """What is claimed and not finished, the oldest first, but for what this drainer holds itself."""
        found = []
        for name, state in (yield from self.left_behind()).items():
            lease = yield from _again(command("GET", self._lease_of(name)))
            left_ms = yield from _again(command("PTTL", self._lease_of(name)))
            elements = yield from _again(command("LLEN", self.list_of(name)))
            if elements and lease != self._owner.encode():
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
        """The next chunk after the first `skip` elements; empty at the end. It stays in the claim until `commit`."""
        if claim.length <= skip:
            return []
        return self.accept(claim, (yield from _again(self.reading(claim, skip=skip).command)))

    def reading(self, claim: Claim, *, skip: int) -> Reading:
        """The command that reads a chunk after the first `skip` elements; its reply goes to `accept`."""
        count = fitting(min(self._chunk, claim.length - skip), claim.average_bytes)
        return Reading(command("LRANGE", self.list_of(claim.name), skip, skip + count - 1), count)

    def accept(self, claim: Claim, elements: list[bytes]) -> list[bytes]:
        """The chunk that came. RedisqError if there was none, so that somebody else must have it."""
        if not elements:
            raise _lost(self.key)
        claim.average_bytes = average_bytes(elements)
        return elements

    def commit(self, claim: Claim, done: int, state: str = "") -> Steps[None]:
        """The first `done` elements have been dealt with: forget them, and note `state` in the same step."""
        self.check_kept((yield from _script_again(_COMMIT, *self._commit_arguments(claim, done, state))))
        claim.length, claim.state = claim.length - done, state

    def committing(self, claim: Claim, done: int, state: str = "") -> RedisCommand:
        """The command that commits, where the server knows the script; its reply goes to `check_kept`."""
        return script_command(_COMMIT, *self._commit_arguments(claim, done, state))

    def check_kept(self, reply: int) -> None:
        """RedisqError if the reply to a commit says that the claim is no longer ours."""
        if reply < 0:
            raise _lost(self.key)

    def _commit_arguments(self, claim: Claim, done: int, state: str) -> tuple[tuple[str, ...], tuple[str | int, ...]]:
        keys = (self._registry, self.list_of(claim.name), self._lease_of(claim.name))
        return keys, (claim.name, self._owner, self._lease_ms, claim.length - done, state)

    def release(self) -> Steps[None]:
        """Leave what is left to the next drainer, at once."""
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
    """What a drain has noted beside its claim; empty where it has noted nothing that we know."""
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
    """What a drain by popping has to know before it begins."""
    left = yield command("LLEN", key)
    info = yield command("COMMAND", "INFO", "LPOP")
    usage = (yield command("MEMORY", "USAGE", key, "SAMPLES", 20)) if left else 0
    return Measured(int(left), int(info[0][1]) < 0, max(1.0, (usage or 0) / (left or 1)))


def pop(key: str, count: int, pops: bool) -> Steps[list[bytes]]:
    """Up to `count` elements from the head; `pops` as measured."""
    elements: list[bytes] | None
    if pops:
        elements = yield command("LPOP", key, count)
    else:
        elements = yield from run_script(_POP, (key,), (count,))
    return elements or []


def fitting(chunk: int, average: float) -> int:
    """How many of `chunk` elements to take at once where one has `average` bytes: at least one.

    >>> fitting(10_000, 100.0), fitting(10_000, 2.0**20)
    (10000, 1)
    """
    return max(1, min(chunk, int(CHUNK_BYTES / average)))


def average_bytes(elements: list[bytes]) -> float:
    """The size of an element, by a sample of a hundred."""
    sample = elements[:: 1 + len(elements) // 100]
    return max(1.0, sum(map(len, sample)) / len(sample))


def _again(step: RedisCommand) -> Steps[Any]:
    """Ask once more if the connection broke: only for what may be done twice."""
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
        f"another drainer has taken over what this one had claimed of {key!r}, as this one was silent for longer than "
        "its lease: the chunk in hand is drained twice, the rest by the other. "
        "lease_seconds must be more than a chunk takes."
    )
