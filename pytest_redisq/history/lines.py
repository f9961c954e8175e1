"""Writes and reads a history as JSON Lines.

A line has one of these forms. `messages` are pairs of producer and sequence. Empty and null values may be left out.

    {"actor": "consumer-1", "kind": "dequeue", "outcome": "ok", "messages": [[0, 3]], "ids": ["17-0"],
     "invoked_ns": 5, "ended_ns": 9, "queue": "jobs", "error": ""}    an op
    {"op": 1, "actor": …, "kind": …, "messages": …, "invoked_ns": …}  its invocation alone, as `Journal` writes it
    {"op": 1, "outcome": …, "ended_ns": …, "ids": …}                  its end
    {"quiescence": {"at_ns": 12, "producers_ended": true, …}}         the end of the history, see `Quiescence`
    {"fault": {"fault": "drop:connections@50", "words": "…", "at_ns": 7, "struck": 3}}   see `FaultRecord`
    {"note": "…"}
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pytest_redisq.errors import HistoryError
from pytest_redisq.history.fault_record import FaultRecord
from pytest_redisq.history.history import History, HistoryBuilder
from pytest_redisq.history.quiescence import FoundPlace, Quiescence, Search
from pytest_redisq.model import Kind, Message, Op, Outcome
from pytest_redisq.spelling import suggest

_T = TypeVar("_T")

#: The longest line of a history, in bytes. A quiescence marker with twenty million messages is shorter.
_LINE_BYTES = 1 << 28
#: Bytes of a line that are read to check that it is a JSON object, and that are shown if it is not.
_HEAD_BYTES, _SHOWN_BYTES = 1 << 16, 20
#: The most characters of the description of an error, which may quote a value of any length.
_SHOWN_CHARACTERS = 500

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def write_history(history: History, path: str | os.PathLike[str]) -> None:
    """Write `history` to `path`, replacing an existing file. `read_history` returns an equal history."""
    with open(path, "w", encoding="utf-8") as file:
        for op in history:
            file.write(_encode(_filled(op)) + "\n")
        if history.quiescence is not None:
            file.write(_encode({"quiescence": _filled(history.quiescence)}) + "\n")
        for fault in history.faults:
            file.write(_encode({"fault": _filled(fault)}) + "\n")
        for note in history.notes:
            file.write(_encode({"note": note}) + "\n")


def read_history(path: str | os.PathLike[str]) -> History:
    """Read the history in the file `path`. An op without an end gets the outcome `info` and `ended_ns` None.

    If the last line is incomplete (its process was killed during the write), it is left out, with a note in
    `History.notes`. Lines that are appended during the read are also left out.

    Raises HistoryError, with the line and the reason, for any other line that cannot be read, and for a path that is
    not a regular file (a pipe may have no end).
    """
    reader = _LineReader(Path(path))
    if not Path(path).is_file():  # before it is opened: opening a pipe without a writer blocks
        raise HistoryError(f"{path} is not a regular file.\nWhat to do: write the history to a file first.")
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(_lines(file, os.fstat(file.fileno()).st_size), start=1):
                reader.take(number, line)
    except OSError as error:
        raise HistoryError(f"{path} cannot be read: {error.strerror}.") from None
    return reader.finish()


def _lines(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The lines in the first `size` bytes. A line that is too long, or not a JSON object, is cut to its beginning."""
    while size > 0:
        line = file.readline(min(size, _HEAD_BYTES))
        if line.lstrip()[:1] == b"{" and not line.endswith(b"\n"):
            line += file.readline(min(size, _LINE_BYTES) - len(line))
        if not line:  # the file was truncated meanwhile
            return
        size -= len(line)
        yield line if line.endswith(b"\n") or not size else line + b"\n"  # cut by `size`, not by its writer


class _LineReader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._builder = HistoryBuilder()
        #: By token, the line that it was invoked in.
        self._open: dict[int, tuple[int, Mapping[str, Any]]] = {}

    def take(self, number: int, line: bytes) -> None:
        if not line.strip():
            return
        if len(line) > _HEAD_BYTES and line.lstrip()[:1] != b"{":
            raise self._malformed(number, f"it is not JSON of a history (it begins with {line[:_SHOWN_BYTES]!r})")
        if len(line) > _LINE_BYTES:
            raise self._malformed(number, f"it is longer than {_LINE_BYTES:,} bytes")
        try:
            fields = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            if line.endswith(b"\n"):
                raise self._malformed(number, f"it is not JSON ({error})") from None
            self._builder.note(f"{self._path.name}:{number}: the last line was cut short and is left out")
            return
        with self._reading(number):
            self._add(number, fields)

    def finish(self) -> History:
        for number, invocation in self._open.values():
            with self._reading(number):
                self._builder.add(_op({**invocation, "outcome": "info", "error": "its process ended first"}))
        return self._builder.build()

    def _add(self, number: int, fields: Any) -> None:
        match fields:
            case {"quiescence": dict() as mark}:
                self._builder.quiescence = _quiescence(mark)
            case {"fault": dict() as fault}:
                self._builder.faults.append(_fault(fault))
            case {"note": str() as words}:
                self._builder.note(words)
            case {"op": int() as token, "outcome": _}:
                if token not in self._open:
                    raise ValueError(f"op {token} ends here, but was not invoked")
                _, invocation = self._open.pop(token)
                self._builder.add(_op({**invocation, **fields}))
            case {"op": int() as token}:
                if token in self._open:
                    raise ValueError(f"op {token} is invoked again before it ended")
                self._open[token] = number, fields
            case {"actor": _}:
                self._builder.add(_op(fields))
            case _:
                raise ValueError('it has none of "actor", "op", "quiescence", "fault" and "note"')

    @contextlib.contextmanager
    def _reading(self, number: int) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._malformed(number, _why(error)) from None

    def _malformed(self, number: int, why: str) -> HistoryError:
        why = why if len(why) <= _SHOWN_CHARACTERS else f"{why[:_SHOWN_CHARACTERS]}…"
        return HistoryError(
            f"{self._path}:{number}: not a line of a history: {why}{'' if why[-1] in '.?' else '.'} "
            "What to do: correct or remove that line, or record the run again. The docstring of "
            "pytest_redisq.history.lines describes the format."
        )


def _why(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


_END_FIELDS = frozenset(field.name for field in dataclasses.fields(Quiescence))
_FAULT_FIELDS = frozenset(field.name for field in dataclasses.fields(FaultRecord))
_SEARCH_FIELDS = frozenset(field.name for field in dataclasses.fields(Search))
_PLACE_FIELDS = frozenset(field.name for field in dataclasses.fields(FoundPlace))
_OP_FIELDS = frozenset(field.name for field in dataclasses.fields(Op)) | {"op"}


def _op(fields: Mapping[str, Any]) -> Op:
    _check_names(fields, _OP_FIELDS)
    op = Op(
        actor=_of_type(str, "actor", fields["actor"]),
        kind=Kind(_one_of(Kind, "kind", fields["kind"])),
        outcome=Outcome(_one_of(Outcome, "outcome", fields["outcome"])),
        messages=_messages(fields.get("messages", ())),
        ids=_texts("ids", fields.get("ids", [])),
        invoked_ns=_of_type(int, "invoked_ns", fields["invoked_ns"]),
        ended_ns=_optional_int(fields.get("ended_ns")),
        queue=_of_type(str, "queue", fields.get("queue", "")),
        error=_of_type(str, "error", fields.get("error", "")),
    )
    if op.ended_ns is None and op.outcome is not Outcome.INFO:
        raise ValueError(f"ended_ns is missing, and an op of outcome {op.outcome} has ended")
    if op.ended_ns is not None and op.ended_ns < op.invoked_ns:
        raise ValueError(f"it ended at {op.ended_ns}, before it was invoked at {op.invoked_ns}")
    return op


def _check_names(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    for name in fields:
        if name not in known:
            hint = suggest(name, known) or f" The fields are {', '.join(sorted(known))}."
            raise ValueError(f"unknown field {name!r}.{hint}")


def _one_of(kinds: type[StrEnum], name: str, value: Any) -> str:
    known = list(map(str, kinds))
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return str(value)


def _quiescence(fields: Mapping[str, Any]) -> Quiescence:
    _check_names(fields, _END_FIELDS)
    return Quiescence(
        at_ns=_of_type(int, "at_ns", fields["at_ns"]),
        **{name: _of_the_end(name, value) for name, value in fields.items() if name != "at_ns"},
    )


def _of_the_end(name: str, value: Any) -> Any:
    match name:
        case "remaining" | "pending" | "trimmed_messages":
            return _messages(value)
        case "trimmed" | "notes":
            return _texts(name, value)
        case "trim_doubt":
            return _of_type(str, name, value)
        case "search":
            return _search(_of_type(dict, name, value))
        case _:
            return _of_type(bool, name, value)


def _fault(fields: Mapping[str, Any]) -> FaultRecord:
    _check_names(fields, _FAULT_FIELDS)
    return FaultRecord(
        fault=_of_type(str, "fault", fields["fault"]),
        words=_of_type(str, "words", fields.get("words", "")),
        at_ns=None if fields.get("at_ns") is None else _of_type(int, "at_ns", fields["at_ns"]),
        struck=_of_type(int, "struck", fields.get("struck", 0)),
        killed=_texts("killed", fields.get("killed", [])),
    )


def _search(fields: Mapping[str, Any]) -> Search:
    _check_names(fields, _SEARCH_FIELDS)
    places = tuple(map(_place, _of_type(list, "places", fields.get("places", []))))
    return Search(places=places, gap=_of_type(str, "gap", fields.get("gap", "")))


def _place(fields: Any) -> FoundPlace:
    fields = _of_type(dict, "places", fields)
    _check_names(fields, _PLACE_FIELDS)
    texts = {name: _of_type(str, name, fields.get(name, "")) for name in _PLACE_FIELDS - {"messages"}}
    return FoundPlace(messages=_messages(fields.get("messages", ())), **texts)


def _texts(name: str, values: Any) -> tuple[str, ...]:
    return tuple(_of_type(str, name, each) for each in _of_type(list, name, values))


def _messages(pairs: Any) -> tuple[Message, ...]:
    try:
        return tuple(Message(_of_type(int, "message", p), _of_type(int, "message", s)) for p, s in pairs)
    except (TypeError, ValueError):
        raise ValueError(f"messages must be pairs of whole numbers, [producer, sequence], not {pairs!r}") from None


def _of_type(wanted: type[_T], name: str, value: Any) -> _T:
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise TypeError(f"{name} must be of the type {wanted.__name__}, not {value!r}")
    return value


def _optional_int(value: Any) -> int | None:
    return None if value is None else _of_type(int, "ended_ns", value)


def _filled(record: Op | Quiescence | FaultRecord | Search | FoundPlace) -> dict[str, object]:
    """The fields that are not empty, without empty texts and tuples, and null."""
    pairs = ((field.name, getattr(record, field.name)) for field in dataclasses.fields(record))
    filled = {name: value for name, value in pairs if value not in ("", (), None)}
    match record:
        case Quiescence(search=Search() as search):
            filled["search"] = _filled(search)
        case Search(places=places) if places:
            filled["places"] = [_filled(place) for place in places]
    return filled
