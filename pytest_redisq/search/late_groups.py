"""Entries that a consumer group never delivers, since it was created at the end of a stream that had them already."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_redisq.check import undelivered_messages
from pytest_redisq.history import GROUP_AT_END, History
from pytest_redisq.model import Kind, Message, Outcome
from pytest_redisq.resp import Trait
from pytest_redisq.search.namespace_search import SearchResult


def late_group_notes(history: History, result: SearchResult, seen: Trait) -> Iterator[str]:
    """Say how many entries a group passed over, if a worker created a group at $.

    * `history`: all operations of the run.
    * `result`: of the search for missing messages.
    * `seen`: what the commands of all workers have done.

    Law: an entry counts as passed over if it lies in a stream whose group will not deliver it, no consumer got it, and
    it was not enqueued after a message that was delivered.
    """
    passed: frozenset[Message] = frozenset()
    if Trait.GROUP_AT_END in seen:
        passed = undelivered_messages(history) & (result.placed - result.found)
    last_ns, first_ns = 0, None
    for group in history.groups if passed else ():
        if group.key.kind is not Kind.ENQUEUE or group.key.outcome is not Outcome.OK:
            continue
        began, ended = group.per_message(group.invoked_ns), group.per_message(group.ends_ns())
        for producer, sequence, invoked_ns, ended_ns in zip(
            group.producers, group.sequences, began, ended, strict=True
        ):
            if (producer, sequence) in passed:
                last_ns = max(last_ns, invoked_ns)
            else:
                first_ns = ended_ns if first_ns is None else min(first_ns, ended_ns)
    if passed and (first_ns is None or last_ns < first_ns):
        yield f"{GROUP_AT_END}: {len(passed):,} entries that were in the stream before were delivered to no consumer"
