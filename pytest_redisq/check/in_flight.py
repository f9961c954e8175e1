"""What was in flight at the end of a history: received by consumers that did not finish it.

They never tried to acknowledge it, or their work on it or their ack failed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_redisq.check.counted import CountedHistory
from pytest_redisq.check.multiset import Multiset
from pytest_redisq.history.columns import ColumnGroup, DeltaColumn
from pytest_redisq.model import Kind, Message, Outcome


class _Unfinished(NamedTuple):
    """The work of an actor on a message failed, or its ack did."""

    actor: str
    message: Message
    invoked_ns: int


def in_flight(counted: CountedHistory, delivered: Multiset, trimmed: Multiset) -> Iterator[tuple[int, Message]]:
    """The messages of `Share.in_flight`: each with how often the queue has acknowledged it."""
    acks = [group for group in counted.history.groups if group.key.kind is Kind.ACK]
    failures = _failures(counted)
    if not acks and not failures:
        return  # no consumer acknowledges here, so that nothing can be told from it
    held = _in_flight_at_the_end(counted, failures) if acks else Counter[Message]()
    held.update(failure.message for failure in failures)
    unsure = {
        message
        for group in acks
        if held and group.key.outcome is Outcome.INFO
        for message in map(Message, group.producers, group.sequences)
    }
    for message, times in sorted(held.items()):
        elsewhere = counted.pending[message] + counted.remaining[message] + trimmed[message]
        owed = min(times, delivered[message], counted.acknowledged[message])
        if times < delivered[message] or counted.acked[message] or message in unsure or elsewhere or not owed:
            continue
        yield owed, message


def _failures(counted: CountedHistory) -> Sequence[_Unfinished]:
    return [
        _Unfinished(group.key.actor, Message(*pair), invoked_ns)
        for group in counted.history.groups
        if group.key.kind in (Kind.ACK, Kind.WORK) and group.key.outcome is Outcome.FAIL
        for *pair, invoked_ns in zip(group.producers, group.sequences, group.per_message(group.invoked_ns), strict=True)
    ]


def _in_flight_at_the_end(counted: CountedHistory, failures: Sequence[_Unfinished]) -> Counter[Message]:
    """The messages of each consumer's last dequeue: what it had in hand when it ended, if it did not acknowledge.

    Those of which its work or ack failed since are left out.
    """
    groups: defaultdict[str, list[ColumnGroup]] = defaultdict(list)
    for group in counted.history.groups:
        if group.key.kind is Kind.DEQUEUE and len(group):
            groups[group.key.actor].append(group)
    held: Counter[Message] = Counter()
    for actor, mine in groups.items():
        last_ns = max(group.invoked_ns.highest() for group in mine)
        latest = [(group, place) for group in mine for place in _places(group.invoked_ns, last_ns)]
        # Of several workers under one name we may not be able to tell whose is the last.
        if len(latest) == 1 and latest[0][0].key.outcome is Outcome.OK:
            ((group, place),) = latest
            cells = slice(place * group.key.width, (place + 1) * group.key.width)
            failed = {each.message for each in failures if each.actor == actor and each.invoked_ns >= last_ns}
            messages = map(Message, group.producers.cells[cells], group.sequences.cells[cells])
            held.update(message for message in messages if message not in failed)
    return held


def _places(numbers: DeltaColumn, highest: int) -> list[int]:
    """Where the `highest` of some numbers stands, if it is among these; of several places the last two will do."""
    if numbers.highest() != highest:
        return []
    if numbers.falls:
        return [place for place, number in enumerate(numbers) if number == highest]
    last = len(numbers) - 1
    return [last, last - 1] if last and numbers.steps.cells[last] == 0 else [last]
