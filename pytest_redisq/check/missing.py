"""Which messages of a history are to be looked for in the server's keys."""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import cached_property

from pytest_redisq.check.counted import CountedHistory
from pytest_redisq.check.in_flight import in_flight
from pytest_redisq.check.multiset import Multiset, differing
from pytest_redisq.history import History
from pytest_redisq.model import Kind, Message, Outcome


def missing_messages(history: History) -> frozenset[Message]:
    """Return the messages that the queue acknowledged, and that are neither delivered for good nor known to be inside.

    Not delivered for good: never delivered, or in the hand of a consumer that ended before it acknowledged them.
    """
    counted = CountedHistory.of(history)
    delivered = Multiset(counted.sizes, counted.dequeues)
    held = (message for _, message in in_flight(counted, delivered, counted.trimmed(bounded=False)))
    return frozenset([*_undelivered(counted, delivered), *held])


def undelivered_messages(history: History) -> frozenset[Message]:
    """Return those of `missing_messages` that were never delivered."""
    counted = CountedHistory.of(history)
    return frozenset(_undelivered(counted, Multiset(counted.sizes, counted.dequeues)))


def _undelivered(counted: CountedHistory, delivered: Multiset) -> Iterator[Message]:
    for message in differing(counted.acknowledged, delivered):
        known = delivered[message] + counted.remaining[message] + counted.pending[message]
        if counted.acknowledged[message] > known:
            yield message


class FinishedMessages(Container[Message]):
    """The messages of a history that consumers have acknowledged as often as they received them. Counted when asked."""

    def __init__(self, history: History) -> None:
        self._history = history

    def __contains__(self, message: object) -> bool:
        counted, delivered = self._counts
        return isinstance(message, Message) and counted.acked[message] >= max(1, delivered[message])

    @cached_property
    def _counts(self) -> tuple[CountedHistory, Multiset]:
        counted = CountedHistory.of(self._history)
        return counted, Multiset(counted.sizes, counted.dequeues)


class AcknowledgedMessages(Container[Message]):
    """The messages of a history that the queue has acknowledged. `total`: how many."""

    def __init__(self, history: History) -> None:
        self._counted = CountedHistory.of(history).acknowledged
        self.total: int = self._counted.total

    def __contains__(self, message: object) -> bool:
        return isinstance(message, Message) and self._counted[message] > 0


def acknowledges(history: History) -> bool:
    """Whether a consumer acknowledged any message."""
    return any(group.key.kind is Kind.ACK and group.key.outcome is Outcome.OK for group in history.groups)


def delivers(history: History) -> bool:
    """Whether the queue delivered any message. If it did not, what was found lies where its producer put it."""
    return any(
        group.key.kind in (Kind.DEQUEUE, Kind.DRAIN) and group.key.outcome is Outcome.OK and group.key.width
        for group in history.groups
    )
