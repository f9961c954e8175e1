"""Multisets of messages: a byte for each that producers attempted, a dictionary for whatever lies outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, count
from operator import or_, xor

from pytest_redisq.history.columns import Strand
from pytest_redisq.model import Message


def dense_sizes(enqueues: Sequence[Strand]) -> tuple[int, ...]:
    """For each producer one more than its highest sequence; 0 where that is wildly high, to save memory."""
    limit = 4 * sum(len(strand.producers) for strand in enqueues) + 1_024
    sizes: list[int] = []
    for strand in enqueues:
        span = strand.span()
        highest = span.highest_producer
        if not span.whole or highest >= limit:
            continue
        sizes.extend([0] * (highest + 1 - len(sizes)))
        if span.run:
            sizes[highest] = max(sizes[highest], span.highest_sequence + 1)
            continue
        for producer, sequence in zip(strand.producers, strand.sequences, strict=True):
            if sequence >= sizes[producer]:
                sizes[producer] = sequence + 1
    return tuple(size if size <= limit else 0 for size in sizes)


class Tally:
    """How often each message occurs."""

    __slots__ = ("dense", "strays", "total")

    def __init__(self, sizes: Iterable[int], strands: Iterable[Strand] = ()) -> None:
        self.dense = tuple(map(bytearray, sizes))
        #: What has no byte, and what exceeds its byte.
        self.strays: Counter[Message] = Counter()
        self.total = 0
        for strand in strands:
            self._add(strand)

    def extend(self, messages: Iterable[Message]) -> None:
        """Add single messages; dear, so for few of them."""
        for message in messages:
            self.strays[message] += 1
            self.total += 1

    def _add(self, strand: Strand) -> None:
        producers, sequences = strand.producers, strand.sequences
        self.total += len(producers)
        if self._fill(strand):
            return
        dense = self.dense
        if strand.span().whole:
            for producer, sequence in zip(producers, sequences, strict=True):
                try:
                    dense[producer][sequence] += 1
                except (IndexError, ValueError):
                    self.strays[Message(producer, sequence)] += 1
            return
        for message in map(Message, producers, sequences):
            # A negative number would count from the end.
            if message.producer < 0 or message.sequence < 0:
                self.strays[message] += 1
                continue
            try:
                dense[message.producer][message.sequence] += 1
            except (IndexError, ValueError):
                self.strays[message] += 1

    def _fill(self, strand: Strand) -> bool:
        """Count a whole run at once, if `strand` is one and its bytes are still free."""
        span = strand.span()
        if not (span.run and span.whole and span.highest_producer < len(self.dense)):
            return False
        cells = self.dense[span.highest_producer]
        stop = span.highest_sequence + 1
        start = stop - span.messages
        free = stop <= len(cells) and not any(cells[start:stop])
        if free:
            cells[start:stop] = b"\x01" * span.messages
        return free

    def __getitem__(self, message: Message) -> int:
        producer, sequence = message
        strays = self.strays.get(message, 0) if self.strays else 0
        if 0 <= producer < len(self.dense) and 0 <= sequence < len(self.dense[producer]):
            return self.dense[producer][sequence] + strays
        return strays


def differing(*tallies: Tally) -> Iterator[Message]:
    """The messages that do not occur equally often in all `tallies` (of equal sizes), each once."""
    first, *others = tallies
    for producer, cells in enumerate(first.dense):
        marks: Iterable[int] | None = None
        for other in others:
            if other.dense[producer] != cells:
                unequal = map(xor, cells, other.dense[producer])
                marks = unequal if marks is None else map(or_, marks, unequal)
        if marks is not None:
            yield from (Message(producer, sequence) for sequence in compress(count(), marks))
    strays = {message for tally in tallies for message in tally.strays}
    for message in sorted(strays):
        if len({_byte(tally, message) for tally in tallies}) == 1:
            yield message


def repeated(tally: Tally) -> Iterator[Message]:
    """The messages that occur more than once."""
    for producer, cells in enumerate(tally.dense):
        if len(cells) > cells.count(0) + cells.count(1):
            yield from (Message(producer, sequence) for sequence, times in enumerate(cells) if times > 1)
    for message, times in sorted(tally.strays.items()):
        # One that has a full byte as well was among those above.
        if times > 1 and _byte(tally, message) == 0:
            yield message


def _byte(tally: Tally, message: Message) -> int:
    producer, sequence = message
    if 0 <= producer < len(tally.dense) and 0 <= sequence < len(tally.dense[producer]):
        return tally.dense[producer][sequence]
    return 0
