"""What the server says of messages that a queue removed by a bound: entries of streams, and elements of lists.

Law: a message that is in no key counts as trimmed only if workers of the run were seen to trim, or a server did
that only the run uses, and only if at least as many messages as the bound keeps were enqueued after it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import redis

from pytest_redisq.history import History
from pytest_redisq.model import Kind, Message, Outcome
from pytest_redisq.resp import TRIM_COMMANDS, Trait


def declared_bound(queue: object) -> int | None:
    """The most messages that the queue keeps, if it says so by an attribute `maxlen`, as a stream does."""
    bound = getattr(queue, "maxlen", None)
    return bound if isinstance(bound, int) and bound > 0 else None


class StreamBounds(NamedTuple):
    """What XINFO STREAM says of a stream's ends: positions of entries.

    `first`: of the oldest entry that is there, or after the last one if there is none. `last`: the highest ever given.
    `deleted`: the highest that XDEL has removed; None where the server does not say. `removed`: how many are gone.
    `name`: the key without the namespace's prefix. `added`: how many entries were ever added; 0 where the server does
    not say.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    deleted: tuple[int, int] | None
    removed: int
    name: str = ""
    added: int = 0

    @classmethod
    def of(cls, client: redis.Redis, key: bytes, name: str) -> StreamBounds:
        told: Any = client.xinfo_stream(key)
        last = position(told["last-generated-id"])
        entry = told.get("first-entry")
        deleted = told.get("max-deleted-entry-id")
        added = told.get("entries-added", 0)
        return cls(
            first=position(entry[0]) if entry else (last[0], last[1] + 1),
            last=last,
            deleted=None if deleted is None else position(deleted),
            removed=max(0, added - told["length"]),
            name=name,
            added=added,
        )

    def trimmed(self, at: tuple[int, int], *, declared: bool) -> bool:
        """Whether the entry at that position was trimmed for certain.

        `declared`: whether the queue declares a bound; then it need not be certain that XDEL did not remove the entry.
        """
        if not (self.removed and at < self.first and at <= self.last):
            return False
        return declared or (self.deleted is not None and at > self.deleted)


def position(entry_id: bytes | str) -> tuple[int, int]:
    """Where a stream's id lies in order: milliseconds, then the number within them."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number or 0)


def trimmed_ids(history: History, streams: Iterable[StreamBounds], *, declared: bool) -> list[str]:
    """The ids of acknowledged enqueues whose entries a stream has trimmed; parameters as for `StreamBounds.trimmed`."""
    bounds = [stream for stream in streams if stream.removed]
    if not bounds:
        return []
    codes = (
        code
        for group in history.groups
        if group.key.kind is Kind.ENQUEUE and group.key.outcome is Outcome.OK and group.key.named
        for code in group.ids
        if code >= 0
    )
    ids = map(history.ids.text, codes)
    return [name for name in ids if any(each.trimmed(position(name), declared=declared) for each in bounds)]


def trimmed_messages(history: History, gone: Collection[Message], keeps: int) -> list[Message]:
    """Those of `gone`, which are in no key, that a bound may have removed: all but the newest `keeps` enqueued."""
    if not gone:
        return []
    newest: list[int] = []
    began: dict[Message, int] = {}
    for group in history.groups:
        if group.key.kind is not Kind.ENQUEUE or group.key.outcome is Outcome.FAIL:
            continue
        columns = zip(group.producers, group.sequences, group.per_message(group.invoked_ns), strict=True)
        ends = group.per_message(group.ends_ns() if group.key.ended else group.invoked_ns)
        for (producer, sequence, invoked_ns), ended_ns in zip(columns, ends, strict=True):
            newest.append(ended_ns)
            if (message := Message(producer, sequence)) in gone:
                began[message] = invoked_ns
    newest.sort(reverse=True)
    # Of the messages enqueued after one, at least `keeps` others ended after it began: itself is among them.
    since = newest[keeps] if len(newest) > keeps else -1
    return sorted(message for message, invoked_ns in began.items() if invoked_ns <= since)


#: So many messages are named that a consumer has not returned.
_NAMED = 3


def kept_back_doubt(messages: Sequence[Message]) -> str:
    """Why a bound need not have removed what is missing, if a consumer was handed these messages, or some unknown."""
    shown = ", ".join([*map(str, messages[:_NAMED]), *(["…"] if len(messages) > _NAMED else [])])
    return (
        f"a consumer was handed messages{f' ({shown})' if shown else ''} that its get did not return, so that it "
        "cannot be told whether a bound removed them"
    )


_DO_TRIM = (
    "another client may have. To be certain, trim by a command of the client that the queue is given, or use a server "
    "of its own (@pytest.mark.redisq_dedicated)"
)


class TrimWatch:
    """Tells whether bounds may have removed messages from lists and sorted sets since this object was made.

    * `client`: asks the server how often it has trimmed.
    * `seen`: returns what the commands of the run's workers have done.
    * `shared`: whether clients of other processes may use the server.
    """

    def __init__(self, client: redis.Redis, seen: Callable[[], Trait], *, shared: bool) -> None:
        self._client = client
        self._seen = seen
        self._shared = shared
        self._before = self._count()

    def evidence(self) -> tuple[str, str]:
        """What was trimmed, in words, empty if nothing was; and why it need not be the run's, empty if it is."""
        if Trait.TRIMS in self._seen():
            return "the queue's workers trimmed lists during the run", ""
        number = self._count() - self._before
        if number <= 0:
            return "", ""
        said = f"the server trimmed lists {number:,} times during the run"
        return said, f"{said}, and no worker was seen to do it: {_DO_TRIM}" if self._shared else ""

    def _count(self) -> int:
        """How often the server has trimmed, whichever client told it to; 0 where it does not say."""
        try:
            told: Mapping[str, Any] = self._client.info("commandstats")
        except redis.RedisError:
            return 0
        return sum(told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in TRIM_COMMANDS)
