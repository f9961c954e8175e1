"""What was in flight at the end of a history: in the hands of consumers that never tried to acknowledge it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from pytest_redisq.check.counted import CountedHistory
from pytest_redisq.check.multiset import Multiset
from pytest_redisq.history.columns import ColumnGroup, DeltaColumn
from pytest_redisq.model import Kind, Message, Outcome


def in_flight(counted: CountedHistory, delivered: Multiset, trimmed: Multiset) -> Iterator[tuple[int, Message]]:
    """The messages of `Share.in_flight`: each with how often the queue has acknowledged it."""
    acks = [group for group in counted.history.groups if group.key.kind is Kind.ACK]
    if not acks:
        return  # no consumer acknowledges here, so that nothing can be told from it
    held = _in_flight_at_the_end(counted)
    unsure = {
        message
        for group in acks
        if held and group.key.outcome is not Outcome.OK
        for message in map(Message, group.producers, group.sequences)
    }
    for message, times in sorted(held.items()):
        elsewhere = counted.pending[message] + counted.remaining[message] + trimmed[message]
        owed = min(times, counted.acknowledged[message])
        if times < delivered[message] or counted.acked[message] or message in unsure or elsewhere or not owed:
            continue
        yield owed, message


def _in_flight_at_the_end(counted: CountedHistory) -> Counter[Message]:
    """The messages of each consumer's last dequeue: what it had in hand when it ended, if it did not acknowledge."""
    groups: defaultdict[str, list[ColumnGroup]] = defaultdict(list)
    for group in counted.history.groups:
        if group.key.kind is Kind.DEQUEUE and len(group):
            groups[group.key.actor].append(group)
    held: Counter[Message] = Counter()
    for mine in groups.values():
        last_ns = max(group.invoked_ns.highest() for group in mine)
        latest = [(group, place) for group in mine for place in _places(group.invoked_ns, last_ns)]
        # Of several workers under one name we may not be able to tell whose is the last.
        if len(latest) == 1 and latest[0][0].key.outcome is Outcome.OK:
            ((group, place),) = latest
            cells = slice(place * group.key.width, (place + 1) * group.key.width)
            held.update(map(Message, group.producers.cells[cells], group.sequences.cells[cells]))
    return held


def _places(numbers: DeltaColumn, highest: int) -> list[int]:
    """Where the `highest` of some numbers stands, if it is among these; of several places the last two will do."""
    if numbers.highest() != highest:
        return []
    if numbers.falls:
        return [place for place, number in enumerate(numbers) if number == highest]
    last = len(numbers) - 1
    return [last, last - 1] if last and numbers.steps.cells[last] == 0 else [last]
