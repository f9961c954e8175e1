"""The end of a history: what makes it sound to say that something was lost."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_redisq.model import Message


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
    """What was so, at `at_ns`, when the last op had ended.

    `remaining` can still be had from the queue by an ordinary dequeue; `pending` is inside with no way out (a pending
    or processing list that nobody recovers); `trimmed` are the ids of entries that the queue itself threw away by a
    bound that was declared to it (MAXLEN). `notes` are for the reader of the report.

    `search`: what a search of the server's keys for the missing messages found; None if there was none. The messages
    found are among `remaining` or `pending`.
    """

    at_ns: int
    producers_ended: bool = True
    faults_healed: bool = True
    drained: bool = True
    remaining: tuple[Message, ...] = ()
    pending: tuple[Message, ...] = ()
    trimmed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    search: Search | None = None
