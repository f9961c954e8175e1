"""Ops in columns of narrow integers: about 13 bytes an op with one message, where an `Op` object takes some 400."""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate, repeat
from operator import add, eq
from typing import NamedTuple, TypeVar

from pytest_redisq.model import Kind, Message, Outcome

#: The ladder of signed widths: 1, 2, 4 and 8 bytes.
_WIDTHS = "bhiq"


class Column:
    """Whole numbers in −2⁶³ … 2⁶³−1, all stored as narrowly as the largest of them needs."""

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
    """Numbers that mostly rise, stored as the steps between neighbours. Falling is allowed, and remembered."""

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
        """The greatest of them; 0 where there is none."""
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
    """The queue's own names of messages as integers, and back.

    Law: `text(code(x)) == x`; for two stream IDs, `code` keeps their order, and codes ≥ 0 are stream IDs only.
    Other names are numbered from −1 downwards as they come, so their codes are equal exactly if the names are.
    """

    __slots__ = ("_codes", "names")

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """Also for an ID that no op has yet: it is then added."""
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
    """What the ops of one group have in common."""

    actor: str
    kind: Kind
    outcome: Outcome
    queue: str
    error: str
    width: int  # messages per op
    named: bool  # whether each message has an id
    ended: bool


class Row(NamedTuple):
    """An op within its group: what it does not share with the others. `ids` are codes of `Ids`."""

    invoked_ns: int
    ended_ns: int | None
    messages: tuple[Message, ...]
    ids: tuple[int, ...]


class Span(NamedTuple):
    """The numbers of `messages` messages, taken together. `whole`: none is negative, as `model.UNREADABLE` is.

    `run`: they are one producer's, and count upwards by one, as those of an undisturbed producer do.
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
    """The ops of one key, in the order in which they ended; a sequential actor's are in that of invocation too."""

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
        """When each op ended; meaningless where the key says that they never did."""
        return map(add, self.invoked_ns, self.durations_ns)

    def span(self) -> Span:
        """What numbers its messages have; asked for often, so remembered until another op comes."""
        if self._span is None or self._span.messages != len(self.producers):
            self._span = Span.of(self.producers.cells, self.sequences.cells)
        return self._span

    def per_message(self, values: Iterable[_T]) -> Iterable[_T]:
        """One value per op, stretched to one per message."""
        width = self.key.width
        return values if width == 1 else (value for value in values for _ in range(width))

    def codes(self) -> Iterator[int | None]:
        """The id's code of each message, None where it has none."""
        return iter(self.ids) if self.key.named else repeat(None, len(self.producers))

    def rows(self) -> Iterator[Row]:
        """Every op, by time of invocation."""
        return iter(sorted(self._rows(), key=_invocation)) if self.invoked_ns.falls else self._rows()

    def rows_at(self, places: Collection[int]) -> Iterator[tuple[int, Row]]:
        """The ops at `places`, counted from 0 in the order in which they were appended, each with its place."""
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
