"""The history of a run: every op by every actor, compact, sorted by time, mergeable."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

from pytest_redisq.history.columns import ColumnGroup, Ids, OpKey, Row
from pytest_redisq.history.fault_record import FaultRecord
from pytest_redisq.history.quiescence import Quiescence
from pytest_redisq.model import Kind, Message, Op, Outcome


class HistoryBuilder:
    """Ops in, a `History` out. Not safe across threads: see `Recorder`."""

    def __init__(self) -> None:
        self._ids = Ids()
        self._groups: dict[tuple[object, ...], ColumnGroup] = {}
        self._notes: list[str] = []
        #: What became of the run's faults, in the order of time.
        self.faults: list[FaultRecord] = []
        self.quiescence: Quiescence | None = None

    def add(self, op: Op) -> None:
        if op.ids and len(op.ids) != len(op.messages):
            raise ValueError(f"an op has as many ids as messages, or none: {len(op.ids)} for {len(op.messages)}")
        self.put(op.actor, op.kind, op.outcome, op.messages, op.ids, op.invoked_ns, op.ended_ns, op.queue, op.error)

    def put(
        self,
        actor: str,
        kind: Kind,
        outcome: Outcome,
        messages: Sequence[Message],
        ids: Sequence[str],
        invoked_ns: int,
        ended_ns: int | None,
        queue: str,
        error: str,
    ) -> None:
        """`add` without an `Op`, for whoever has millions of them and has checked their ids."""
        width, named, ended = len(messages), bool(ids), ended_ns is not None
        # Enums hash slowly, and there is one object of each: by identity the lookup costs a tenth.
        place = (actor, id(kind), id(outcome), queue, error, width, named, ended)
        group = self._groups.get(place)
        if group is None:
            key = OpKey(actor, kind, outcome, queue, error, width, named, ended)
            group = self._groups[place] = ColumnGroup(key)
        group.append(invoked_ns, ended_ns, messages, map(self._ids.code, ids) if named else ())

    def note(self, words: str) -> None:
        """Something about the recording itself that whoever judges the history should know."""
        self._notes.append(words)

    def build(self) -> History:
        return History(tuple(self._groups.values()), self._ids, self.quiescence, tuple(self._notes), tuple(self.faults))


class History:
    """Every op of a run. Iterating gives them as `Op`, by time of invocation; `len` counts them.

    Times are nanoseconds of `time.monotonic_ns`, which all processes of one machine share (since its boot): histories
    of several processes of one machine merge; those of two machines do not.
    """

    __slots__ = ("faults", "groups", "ids", "notes", "quiescence")

    def __init__(
        self,
        groups: tuple[ColumnGroup, ...],
        ids: Ids,
        quiescence: Quiescence | None,
        notes: tuple[str, ...],
        faults: tuple[FaultRecord, ...] = (),
    ) -> None:
        self.groups: tuple[ColumnGroup, ...] = tuple(sorted(groups, key=_by_key))
        self.ids: Ids = ids
        self.quiescence: Quiescence | None = quiescence
        self.notes: tuple[str, ...] = notes
        self.faults: tuple[FaultRecord, ...] = faults

    @classmethod
    def of(
        cls,
        ops: Iterable[Op],
        quiescence: Quiescence | None = None,
        notes: Iterable[str] = (),
        faults: Iterable[FaultRecord] = (),
    ) -> History:
        """The history of `ops`, in whatever order they come. `notes` are about the recording itself."""
        builder = HistoryBuilder()
        for op in ops:
            builder.add(op)
        builder.quiescence = quiescence
        for note in notes:
            builder.note(note)
        builder.faults += faults
        return builder.build()

    @classmethod
    def merge(cls, *parts: History) -> History:
        """One history of several recorders' parts; of their quiescence markers, the latest counts."""
        ids = Ids()
        groups = tuple(_recoded(group, part.ids, ids) for part in parts for group in part.groups)
        marks = [part.quiescence for part in parts if part.quiescence is not None]
        latest = max(marks, key=lambda mark: mark.at_ns, default=None)
        notes = tuple(note for part in parts for note in part.notes)
        return cls(groups, ids, latest, notes, tuple(fault for part in parts for fault in part.faults))

    def __len__(self) -> int:
        return sum(map(len, self.groups))

    def __iter__(self) -> Iterator[Op]:
        """Ops of one instant come in the order of their keys, so that it is the same after a round trip."""
        lanes = (zip(repeat(place), group.rows()) for place, group in enumerate(self.groups))
        for place, row in heapq.merge(*lanes, key=_instant):
            yield self.op(self.groups[place].key, row)

    def op(self, key: OpKey, row: Row) -> Op:
        return Op(
            actor=key.actor,
            kind=key.kind,
            outcome=key.outcome,
            messages=row.messages,
            ids=tuple(map(self.ids.text, row.ids)),
            invoked_ns=row.invoked_ns,
            ended_ns=row.ended_ns,
            queue=key.queue,
            error=key.error,
        )


def _instant(placed: tuple[int, Row]) -> tuple[int, int]:
    return placed[1].invoked_ns, placed[0]


def _by_key(group: ColumnGroup) -> OpKey:
    return group.key


def _recoded(group: ColumnGroup, old: Ids, new: Ids) -> ColumnGroup:
    """`group` with its ids in the terms of `new`; itself where that changes nothing."""
    if not old.names or not group.key.named:
        return group
    copy = ColumnGroup(group.key)
    for row in group.rows():
        codes = (code if code >= 0 else new.code(old.text(code)) for code in row.ids)
        copy.append(row.invoked_ns, row.ended_ns, row.messages, codes)
    return copy
