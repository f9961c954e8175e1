"""The end of a history: what makes it sound to say that something was lost."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_redisq.model import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiescence:
    """What was so, at `at_ns`, when the last op had ended.

    `remaining` can still be had from the queue by an ordinary dequeue; `pending` is inside with no way out (a pending
    or processing list that nobody recovers); `trimmed` are the ids of entries that the queue itself threw away by a
    bound that was declared to it (MAXLEN). `notes` are for the reader of the report.
    """

    at_ns: int
    producers_ended: bool = True
    faults_healed: bool = True
    drained: bool = True
    remaining: tuple[Message, ...] = ()
    pending: tuple[Message, ...] = ()
    trimmed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
