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
    """Builds a `History` from ops. Not thread-safe: see `Recorder`."""

    def __init__(self) -> None:
        self._ids = Ids()
        self._groups: dict[tuple[object, ...], ColumnGroup] = {}
        self._notes: list[str] = []
        #: What became of the run's faults, in the order of time.
        self.faults: list[FaultRecord] = []
        self.quiescence: Quiescence | None = None

    def add(self, op: Op) -> None:
        if op.ids and len(op.ids) != len(op.messages):
            raise ValueError(f"an op needs one id for each message, or none: got {len(op.ids)} for {len(op.messages)}")
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
        """`add` without an `Op`, for millions of ops. The caller has checked that ids and messages match."""
        width, named, ended = len(messages), bool(ids), ended_ns is not None
        # Enums hash slowly. Each member is one object, so a lookup by identity takes a tenth of the time.
        place = (actor, id(kind), id(outcome), queue, error, width, named, ended)
        group = self._groups.get(place)
        if group is None:
            key = OpKey(actor, kind, outcome, queue, error, width, named, ended)
            group = self._groups[place] = ColumnGroup(key)
        group.append(invoked_ns, ended_ns, messages, map(self._ids.code, ids) if named else ())

    def note(self, words: str) -> None:
        """Add a note about the recording itself, for the report."""
        self._notes.append(words)

    def build(self) -> History:
        return History(tuple(self._groups.values()), self._ids, self.quiescence, tuple(self._notes), tuple(self.faults))


class History:
    """Every op of a run. Iteration yields them as `Op`, sorted by time of invocation; `len` is their number.

    Times are nanoseconds of `time.monotonic_ns`, a clock that all processes of one machine share. So histories of
    several processes of one machine can be merged, but not those of two machines.
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
        """The history of `ops`, which may be in any order. `notes`: about the recording itself; default: none."""
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
        """Merge the histories of several recorders. The latest of their quiescence markers counts."""
        ids = Ids()
        groups = tuple(_recoded(group, part.ids, ids) for part in parts for group in part.groups)
        marks = [part.quiescence for part in parts if part.quiescence is not None]
        latest = max(marks, key=lambda mark: mark.at_ns, default=None)
        notes = tuple(note for part in parts for note in part.notes)
        return cls(groups, ids, latest, notes, tuple(fault for part in parts for fault in part.faults))

    def __len__(self) -> int:
        return sum(map(len, self.groups))

    def __iter__(self) -> Iterator[Op]:
        """Ops invoked at the same time are sorted by their keys, so that the order survives a round trip."""
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
    """`group` with its ids converted from `old` to `new` codes; the same object if nothing changes."""
    if not old.names or not group.key.named:
        return group
    copy = ColumnGroup(group.key)
    for row in group.rows():
        codes = (code if code >= 0 else new.code(old.text(code)) for code in row.ids)
        copy.append(row.invoked_ns, row.ended_ns, row.messages, codes)
    return copy
