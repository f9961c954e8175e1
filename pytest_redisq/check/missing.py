"""Which messages of a history are to be looked for in the server's keys."""

from __future__ import annotations

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
    missing = {
        message
        for message in differing(counted.acknowledged, delivered)
        if counted.acknowledged[message] > delivered[message] + counted.remaining[message] + counted.pending[message]
    }
    missing.update(message for _, message in in_flight(counted, delivered, counted.trimmed()))
    return frozenset(missing)


def delivers(history: History) -> bool:
    """Whether the queue delivered any message. If it did not, what was found lies where its producer put it."""
    return any(
        group.key.kind in (Kind.DEQUEUE, Kind.DRAIN) and group.key.outcome is Outcome.OK and group.key.width
        for group in history.groups
    )
