"""The marker at the end of a history, without which no message can be called lost."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_redisq.model import Message

#: How a note begins that says that a consumer group passed over entries.
GROUP_AT_END = "a worker created a consumer group at $, the end of its stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPlace:
    """Where a search of the server found missing messages at the end.

    * `key`, `type`: of the key that holds them, without the namespace's prefix; the type is as the command TYPE says.
    * `messages`: those that it holds.
    * `state`: what else the server says of them, such as "pending to consumer c1 for 4.2 s"; empty: nothing.
    """

    key: str
    type: str
    messages: tuple[Message, ...]
    state: str = ""

    def __str__(self) -> str:
        return f"the {self.type} {self.key}" + (f", {self.state}" if self.state else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search of the server's keys for missing messages. `gap`: why it is not complete; empty if it is."""

    places: tuple[FoundPlace, ...] = ()
    gap: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiescence:
    """The state at the end of a run, at `at_ns`, after the last op.

    * `remaining`: messages that an ordinary dequeue can still return.
    * `pending`: messages in the queue that no dequeue returns: in a pending or processing list without recovery.
    * `trimmed`: the ids of entries that the queue removed by a declared bound (MAXLEN).
    * `trimmed_messages`: the messages that the queue removed in the same way and that have no ids.
    * `trim_doubt`: why it cannot be told whether `trimmed_messages` were removed by a bound; empty if it can.
    * `notes`: for the reader of the report.
    * `search`: what a search of the server's keys for missing messages found; None if there was none. The messages
      found are among `remaining` or `pending`.
    """

    at_ns: int
    producers_ended: bool = True
    faults_healed: bool = True
    drained: bool = True
    remaining: tuple[Message, ...] = ()
    pending: tuple[Message, ...] = ()
    trimmed: tuple[str, ...] = ()
    trimmed_messages: tuple[Message, ...] = ()
    trim_doubt: str = ""
    notes: tuple[str, ...] = ()
    search: Search | None = None
