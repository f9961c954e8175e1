"""Multisets of messages: a byte for each that producers attempted, a dictionary for whatever lies outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, count
from operator import or_, xor

from pytest_redisq.history.columns import ColumnGroup
from pytest_redisq.model import Message


def dense_sizes(enqueues: Sequence[ColumnGroup]) -> tuple[int, ...]:
    """For each producer one more than its highest sequence; 0 where that is wildly high, to save memory."""
    limit = 4 * sum(len(group.producers) for group in enqueues) + 1_024
    sizes: list[int] = []
    for group in enqueues:
        span = group.span()
        highest = span.highest_producer
        if not span.whole or highest >= limit:
            continue
        sizes.extend([0] * (highest + 1 - len(sizes)))
        if span.run:
            sizes[highest] = max(sizes[highest], span.highest_sequence + 1)
            continue
        for producer, sequence in zip(group.producers, group.sequences, strict=True):
            if sequence >= sizes[producer]:
                sizes[producer] = sequence + 1
    return tuple(size if size <= limit else 0 for size in sizes)


class Multiset:
    """How often each message occurs."""

    __slots__ = ("dense", "sparse", "total")

    def __init__(self, sizes: Iterable[int], groups: Iterable[ColumnGroup] = ()) -> None:
        self.dense: tuple[bytearray, ...] = tuple(map(bytearray, sizes))
        #: What has no byte, and what exceeds its byte.
        self.sparse: Counter[Message] = Counter()
        self.total: int = 0
        for group in groups:
            self._add(group)

    def extend(self, messages: Iterable[Message]) -> None:
        """Add single messages; dear, so for few of them."""
        for message in messages:
            self.sparse[message] += 1
            self.total += 1

    def _add(self, group: ColumnGroup) -> None:
        producers, sequences = group.producers, group.sequences
        self.total += len(producers)
        if self._fill(group):
            return
        dense = self.dense
        if group.span().whole:
            for producer, sequence in zip(producers, sequences, strict=True):
                try:
                    dense[producer][sequence] += 1
                except (IndexError, ValueError):
                    self.sparse[Message(producer, sequence)] += 1
            return
        for message in map(Message, producers, sequences):
            # A negative number would count from the end.
            if message.producer < 0 or message.sequence < 0:
                self.sparse[message] += 1
                continue
            try:
                dense[message.producer][message.sequence] += 1
            except (IndexError, ValueError):
                self.sparse[message] += 1

    def _fill(self, group: ColumnGroup) -> bool:
        """Count a whole run at once, if `group` is one and its bytes are still free."""
        span = group.span()
        if not (span.run and span.whole and span.highest_producer < len(self.dense)):
            return False
        cells = self.dense[span.highest_producer]
        stop = span.highest_sequence + 1
        start = stop - span.messages
        free = stop <= len(cells) and not any(cells[start:stop])
        if free:
            cells[start:stop] = b"\x01" * span.messages
        return free

    def repeated(self) -> int:
        """How many of its occurrences are not the first of a message."""
        dense = sum(len(cells) - cells.count(0) for cells in self.dense)
        return self.total - dense - sum(_byte(self, message) == 0 for message in self.sparse)

    def __getitem__(self, message: Message) -> int:
        producer, sequence = message
        sparse = self.sparse.get(message, 0) if self.sparse else 0
        if 0 <= producer < len(self.dense) and 0 <= sequence < len(self.dense[producer]):
            return self.dense[producer][sequence] + sparse
        return sparse


def differing(*multisets: Multiset) -> Iterator[Message]:
    """The messages that do not occur equally often in all `multisets` (of equal sizes), each once."""
    first, *others = multisets
    for producer, cells in enumerate(first.dense):
        marks: Iterable[int] | None = None
        for other in others:
            if other.dense[producer] != cells:
                unequal = map(xor, cells, other.dense[producer])
                marks = unequal if marks is None else map(or_, marks, unequal)
        if marks is not None:
            yield from (Message(producer, sequence) for sequence in compress(count(), marks))
    sparse = {message for multiset in multisets for message in multiset.sparse}
    for message in sorted(sparse):
        if len({_byte(multiset, message) for multiset in multisets}) == 1:
            yield message


def repeated(multiset: Multiset) -> Iterator[Message]:
    """The messages that occur more than once."""
    for producer, cells in enumerate(multiset.dense):
        if len(cells) > cells.count(0) + cells.count(1):
            yield from (Message(producer, sequence) for sequence, times in enumerate(cells) if times > 1)
    for message, times in sorted(multiset.sparse.items()):
        # One that has a full byte as well was among those above.
        if times > 1 and _byte(multiset, message) == 0:
            yield message


def _byte(multiset: Multiset, message: Message) -> int:
    producer, sequence = message
    if 0 <= producer < len(multiset.dense) and 0 <= sequence < len(multiset.dense[producer]):
        return multiset.dense[producer][sequence]
    return 0
