"""Multisets of messages, against `collections.Counter`."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_redisq.check.multiset import Multiset, dense_sizes, differing, repeated
from pytest_redisq.history import History
from pytest_redisq.history.columns import ColumnGroup
from pytest_redisq.model import UNREADABLE, Message
from tests.check.literals import put

MESSAGES = st.one_of(
    st.builds(Message, st.integers(0, 2), st.integers(0, 4)),
    st.sampled_from([UNREADABLE, Message(0, 10**12), Message(10**12, 0)]),
)
BAGS = st.lists(st.tuples(MESSAGES, st.sampled_from([1, 2, 300])), max_size=8)


def groups(messages: list[Message]) -> tuple[ColumnGroup, ...]:
    ops = [put(at, message.sequence, producer=message.producer) for at, message in enumerate(messages)]
    return History.of(ops).groups


@settings(deadline=None)
@given(BAGS, BAGS)
def test_multisets_count_compare_and_repeat_as_counters_do(
    one: list[tuple[Message, int]], two: list[tuple[Message, int]]
) -> None:
    lists = [[message for message, times in bag for _ in range(times)] for bag in (one, two)]
    counters = [Counter(messages) for messages in lists]
    sizes = dense_sizes([*groups(lists[0]), *groups(lists[1])])
    multisets = [Multiset(sizes, groups(messages)) for messages in lists]
    everything = set(lists[0]) | set(lists[1])
    for multiset, counter in zip(multisets, counters, strict=True):
        assert multiset.total == counter.total()
        assert {message: multiset[message] for message in everything} == {m: counter[m] for m in everything}
        assert sorted(repeated(multiset)) == sorted(message for message, times in counter.items() if times > 1)
    uneven = list(differing(*multisets))
    assert len(uneven) == len(set(uneven))
    assert set(uneven) >= {message for message in everything if counters[0][message] != counters[1][message]}


def test_wild_numbers_cost_no_memory() -> None:
    assert dense_sizes(groups([Message(0, 10**12), Message(1, 3)])) == (0, 4)
    assert dense_sizes(groups([Message(10**12, 0)])) == ()
