"""Recorders: an actor records each op twice, before it tries it and after it has ended.

`Recorder` keeps ops in memory, for the threads and tasks of one process. `Journal` writes each half of an op to its own
file before it returns, for a child process that may be killed at any moment. So each invocation stays on record.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pytest_redisq.errors import HistoryError
from pytest_redisq.history.history import History, HistoryBuilder
from pytest_redisq.history.quiescence import Quiescence, Search
from pytest_redisq.model import Kind, Message, Outcome

#: Ended ops are collected in a list (a cheap, thread-safe append) until there are so many. Then they go into columns.
_FOLD_OPS = 8_192


class Recording(Protocol):
    """The interface of a recorder. For every op, call `invoke` before it, then exactly one of `ok`, `fail`, `info`."""

    def invoke(self, actor: str, kind: Kind, messages: Sequence[Message] = (), *, queue: str = "") -> int:
        """Record that an op is about to be tried. Returns its token.

        * `actor`: the worker's name.
        * `kind`: enqueue, dequeue, ack or drain.
        * `messages`: its messages, if they are known; default: none.
        * `queue`: the queue's name; default: none.

        The recorder keeps sequences without copying them, here and below. Do not change them later.
        """

    def ok(
        self, token: int, messages: Sequence[Message] | None = None, ids: Sequence[str] = (), *, error: str = ""
    ) -> None:
        """Record that the op happened.

        * `messages`: its messages; default: those of `invoke`. For a body that is not a message of this run, it
          contains `model.UNREADABLE`.
        * `ids`: the queue's ids of the messages, one for each; default: none.
        * `error`: shows a body that is not a message of this run.
        """

    def fail(self, token: int, error: str = "") -> None:
        """Record that the op certainly did not happen, and never will."""

    def info(self, token: int, error: str = "") -> None:
        """Record that the outcome is unknown: a timeout, a broken connection, a cancelled task."""


#: Actor, kind, queue, messages, time of invocation. A plain tuple: a class would double the cost of an op.
_Open = tuple[str, Kind, str, Sequence[Message], int]
#: The op, outcome, messages, ids, error, time of the end.
_Ended = tuple[_Open, Outcome, Sequence[Message], Sequence[str], str, int | None]


_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


class Recorder:
    """Keeps ops in memory, in columns. All threads and tasks of the process that created it may use it.

    An op takes some five microseconds (see `benchmarks/recorder.py`). An op that was invoked and never ended gets the
    outcome `info` and `ended_ns` None.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._serials = itertools.count()
        self._open: dict[int, _Open] = {}
        self._ended: list[_Ended] = []
        self._builder = HistoryBuilder()
        self._folding = threading.Lock()
        self._born = _forks

    def invoke(self, actor: str, kind: Kind, messages: Sequence[Message] = (), *, queue: str = "") -> int:
        if self._born != _forks:
            raise RuntimeError(_FORKED)
        token = next(self._serials)
        self._open[token] = (actor, kind, queue, messages, self._clock())
        return token

    def ok(
        self, token: int, messages: Sequence[Message] | None = None, ids: Sequence[str] = (), *, error: str = ""
    ) -> None:
        ended = self._clock()
        op = self._take(token)
        happened = op[3] if messages is None else messages
        if ids:
            _check_ids(ids, happened)
        self._end((op, Outcome.OK, happened, ids, error, ended))

    def fail(self, token: int, error: str = "") -> None:
        ended = self._clock()
        op = self._take(token)
        self._end((op, Outcome.FAIL, op[3], (), error, ended))

    def info(self, token: int, error: str = "") -> None:
        ended = self._clock()
        op = self._take(token)
        self._end((op, Outcome.INFO, op[3], (), error, ended))

    def quiescence(
        self,
        *,
        producers_ended: bool = True,
        faults_healed: bool = True,
        drained: bool = True,
        remaining: Sequence[Message] = (),
        pending: Sequence[Message] = (),
        trimmed: Sequence[str] = (),
        trimmed_messages: Sequence[Message] = (),
        trim_doubt: str = "",
        notes: Sequence[str] = (),
        search: Search | None = None,
    ) -> Quiescence:
        """Mark the end of the run, after the last op. Parameters as for `Quiescence`. A later mark replaces it."""
        mark = Quiescence(
            at_ns=self._clock(),
            producers_ended=producers_ended,
            faults_healed=faults_healed,
            drained=drained,
            remaining=tuple(remaining),
            pending=tuple(pending),
            trimmed=tuple(trimmed),
            trimmed_messages=tuple(trimmed_messages),
            trim_doubt=trim_doubt,
            notes=tuple(notes),
            search=search,
        )
        self._builder.quiescence = mark
        return mark

    def history(self) -> History:
        """The history so far. Call it when the actors have stopped: ops recorded meanwhile may be missing."""
        with self._folding:
            self._fold()
            for op in self._open.values():
                self._store((op, Outcome.INFO, op[3], (), "it never ended", None))
            self._open.clear()
            return self._builder.build()

    def _take(self, token: int) -> _Open:
        op = self._open.pop(token, None)
        if op is None:
            raise ValueError(f"token {token} has no open op: call ok, fail or info once for each op")
        return op

    def _end(self, ended: _Ended) -> None:
        self._ended.append(ended)
        if len(self._ended) >= _FOLD_OPS and self._folding.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._folding.release()

    def _fold(self) -> None:
        """Move ended ops into columns. Other threads may append meanwhile; only ops present at the start are moved."""
        batch = self._ended[: len(self._ended)]
        for ended in batch:
            self._store(ended)
        del self._ended[: len(batch)]

    def _store(self, ended: _Ended) -> None:
        (actor, kind, queue, _, invoked_ns), outcome, messages, ids, error, ended_ns = ended
        self._builder.put(actor, kind, outcome, messages, ids, invoked_ns, ended_ns, queue, error)


class Journal:
    """Writes each invocation and each end to its own file, unbuffered, before the call returns.

    So the invocations of a killed process are on record. `read_history` reads the file, and `History.merge` merges it
    with other histories. It survives the death of the process, but not a crash of the machine. Threads may share it; a
    forked child needs its own. An op takes two writes.

    Raises OSError if the file exists already or cannot be created, and HistoryError if the disk is full.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._serials = itertools.count()
        self._born = _forks
        self.path: Path = Path(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        with self._explained():
            self._file = os.open(self.path, flags, 0o600)

    def invoke(self, actor: str, kind: Kind, messages: Sequence[Message] = (), *, queue: str = "") -> int:
        if self._born != _forks:
            raise RuntimeError(_FORKED)
        token = next(self._serials)
        invoked = self._clock()
        line = {"op": token, "actor": actor, "kind": kind, "queue": queue, "messages": messages, "invoked_ns": invoked}
        self._write(line)
        return token

    def ok(
        self, token: int, messages: Sequence[Message] | None = None, ids: Sequence[str] = (), *, error: str = ""
    ) -> None:
        line: dict[str, object] = {"op": token, "outcome": Outcome.OK, "ended_ns": self._clock()}
        if messages is not None:
            line["messages"] = messages
            _check_ids(ids, messages)
        if ids:
            line["ids"] = ids
        if error:
            line["error"] = error
        self._write(line)

    def fail(self, token: int, error: str = "") -> None:
        self._write({"op": token, "outcome": Outcome.FAIL, "ended_ns": self._clock(), "error": error})

    def info(self, token: int, error: str = "") -> None:
        self._write({"op": token, "outcome": Outcome.INFO, "ended_ns": self._clock(), "error": error})

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: object) -> None:
        """Write one line by one write: lines of several threads do not mix, and a kill can only cut the last line."""
        data = _encode(line).encode("ascii") + b"\n"
        with self._explained():
            while data:  # a disk that becomes full takes a part; the next write raises the error
                data = data[os.write(self._file, data) :]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise HistoryError(
                f"The history of the run cannot be written to {self.path}: {error.strerror}.\n"
                "What to do: make room there, or choose another folder (TMPDIR for the workers of a run)."
            ) from error


_encode = json.JSONEncoder(separators=(",", ":")).encode

_FORKED = (
    "this recorder was created before the process forked, so ops recorded here would be lost or mixed with the "
    "parent's. What to do: in a child process, open a Journal on its own file, and merge it afterwards."
)


def _check_ids(ids: Sequence[str], messages: Sequence[Message]) -> None:
    if ids and len(ids) != len(messages):
        raise ValueError(f"an op needs one id for each message, or none: got {len(ids)} for {len(messages)} messages")
