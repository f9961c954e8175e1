"""Ops in columns of narrow integers: about 13 bytes for an op with one message. An `Op` object takes some 400."""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate, repeat
from operator import add, eq
from typing import NamedTuple, TypeVar

from pytest_redisq.model import Kind, Message, Outcome

#: The signed widths that a column goes through as its numbers grow: 1, 2, 4 and 8 bytes.
_WIDTHS = "bhiq"


class Column:
    """Whole numbers in −2⁶³ … 2⁶³−1, all stored with the width that the largest of them needs."""

    __slots__ = ("cells",)

    def __init__(self) -> None:
        self.cells: array[int] = array(_WIDTHS[0])

    def append(self, value: int) -> None:
        try:
            self.cells.append(value)
        except OverflowError:
            self._widen()
            self.append(value)

    def _widen(self) -> None:
        code = self.cells.typecode
        if code == _WIDTHS[-1]:
            raise OverflowError("a column of a history holds numbers of at most 64 bits")
        self.cells = array(_WIDTHS[_WIDTHS.index(code) + 1], self.cells)

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[int]:
        return iter(self.cells)


class DeltaColumn:
    """Numbers that mostly rise, stored as differences of neighbours. They may also fall."""

    __slots__ = ("falls", "first", "last", "steps")

    def __init__(self) -> None:
        self.first: int = 0
        self.last: int = 0
        self.falls: bool = False
        self.steps: Column = Column()

    def append(self, value: int) -> None:
        if not self.steps.cells:
            self.first = self.last = value
        step = value - self.last
        if step < 0:
            self.falls = True
        self.steps.append(step)
        self.last = value

    def highest(self) -> int:
        """The largest number; 0 if there is none."""
        return max(self, default=0) if self.falls else self.last

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[int]:
        if not self.steps.cells:
            return iter(())
        values = accumulate(self.steps.cells, initial=self.first)
        next(values)
        return values


_T = TypeVar("_T")

_STREAM_ID = re.compile(r"(0|[1-9][0-9]{0,12})-(0|[1-9][0-9]{0,6})", re.ASCII)
_SEQUENCE_BITS = 20


class Ids:
    """Converts the queue's ids of messages into integers, and back.

    Law: `text(code(x)) == x`. `code` keeps the order of stream IDs, and only stream IDs have codes ≥ 0. Other ids are
    numbered from −1 downwards in the order of their first use, so equal codes mean equal ids.
    """

    __slots__ = ("_codes", "names")

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """The code of an id. A new id is added."""
        match = _STREAM_ID.fullmatch(text)
        if match is not None:
            sequence = int(match[2])
            if sequence >> _SEQUENCE_BITS == 0:
                return int(match[1]) << _SEQUENCE_BITS | sequence
        code = self._codes.get(text)
        if code is None:
            self.names.append(text)
            code = self._codes[text] = -len(self.names)
        return code

    def text(self, code: int) -> str:
        if code < 0:
            return self.names[-code - 1]
        return f"{code >> _SEQUENCE_BITS}-{code & ((1 << _SEQUENCE_BITS) - 1)}"


class OpKey(NamedTuple):
    """The values that all ops of one group share."""

    actor: str
    kind: Kind
    outcome: Outcome
    queue: str
    error: str
    width: int  # messages per op
    named: bool  # whether each message has an id
    ended: bool


class Row(NamedTuple):
    """An op within its group: the values that it does not share with the other ops. `ids` are codes of `Ids`."""

    invoked_ns: int
    ended_ns: int | None
    messages: tuple[Message, ...]
    ids: tuple[int, ...]


class Span(NamedTuple):
    """A summary of a group's messages.

    * `messages`: how many there are.
    * `whole`: whether no number is negative, as those of `model.UNREADABLE` are.
    * `run`: whether all are of one producer and count upwards by one, as without retries and failures.
    """

    messages: int
    whole: bool
    run: bool
    highest_producer: int
    highest_sequence: int

    @classmethod
    def of(cls, producers: array[int], sequences: array[int]) -> Span:
        number = len(producers)
        if not number:
            return cls(0, True, False, -1, -1)
        first = sequences[0]
        single = producers.count(producers[0]) == number
        run = single and sequences[-1] - first == number - 1 and all(map(eq, sequences, range(first, first + number)))
        whole = (producers[0] >= 0 <= first) if run else (min(producers) >= 0 <= min(sequences))
        return cls(number, whole, run, max(producers), sequences[-1] if run else max(sequences))


class ColumnGroup:
    """The ops of one key, in the order in which they ended; for a sequential actor also the order of invocation."""

    __slots__ = ("_span", "durations_ns", "ids", "invoked_ns", "key", "producers", "sequences")

    def __init__(self, key: OpKey) -> None:
        self.key: OpKey = key
        self.invoked_ns: DeltaColumn = DeltaColumn()
        self.durations_ns: Column = Column()
        self.producers: Column = Column()
        self.sequences: Column = Column()
        self.ids: DeltaColumn = DeltaColumn()
        self._span: Span | None = None

    def append(self, invoked_ns: int, ended_ns: int | None, messages: Iterable[Message], ids: Iterable[int]) -> None:
        self.invoked_ns.append(invoked_ns)
        self.durations_ns.append(0 if ended_ns is None else ended_ns - invoked_ns)
        for producer, sequence in messages:
            self.producers.append(producer)
            self.sequences.append(sequence)
        for code in ids:
            self.ids.append(code)

    def __len__(self) -> int:
        return len(self.durations_ns)

    def ends_ns(self) -> Iterator[int]:
        """When each op ended; meaningless if the key says that the ops never ended."""
        return map(add, self.invoked_ns, self.durations_ns)

    def span(self) -> Span:
        """The summary of the group's messages, cached until the next op is added."""
        if self._span is None or self._span.messages != len(self.producers):
            self._span = Span.of(self.producers.cells, self.sequences.cells)
        return self._span

    def per_message(self, values: Iterable[_T]) -> Iterable[_T]:
        """Repeat one value per op for each of its messages."""
        width = self.key.width
        return values if width == 1 else (value for value in values for _ in range(width))

    def codes(self) -> Iterator[int | None]:
        """The code of each message's id; None for a message without an id."""
        return iter(self.ids) if self.key.named else repeat(None, len(self.producers))

    def rows(self) -> Iterator[Row]:
        """Every op, by time of invocation."""
        return iter(sorted(self._rows(), key=_invocation)) if self.invoked_ns.falls else self._rows()

    def rows_at(self, places: Collection[int]) -> Iterator[tuple[int, Row]]:
        """The ops at `places`, each with its place: 0 for the op that was appended first."""
        width = self.key.width
        invoked = {place: value for place, value in enumerate(self.invoked_ns) if place in places}
        codes = {at: code for at, code in enumerate(self.ids) if at // width in places}
        for place in sorted(places):
            span = range(place * width, (place + 1) * width)
            messages = tuple(Message(self.producers.cells[at], self.sequences.cells[at]) for at in span)
            ended = invoked[place] + self.durations_ns.cells[place] if self.key.ended else None
            ids = tuple(codes[at] for at in span) if self.key.named else ()
            yield place, Row(invoked[place], ended, messages, ids)

    def _rows(self) -> Iterator[Row]:
        width = self.key.width
        pairs = map(Message, self.producers, self.sequences)
        codes = iter(self.ids)
        ends: Iterator[int | None] = self.ends_ns() if self.key.ended else repeat(None, len(self))
        for invoked, ended in zip(self.invoked_ns, ends, strict=True):
            messages = tuple(next(pairs) for _ in range(width))
            ids = tuple(next(codes) for _ in range(width)) if self.key.named else ()
            yield Row(invoked, ended, messages, ids)


def _invocation(row: Row) -> int:
    return row.invoked_ns
