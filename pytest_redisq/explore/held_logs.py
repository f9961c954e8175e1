"""Holds back the log records of an execution, so that only those of the execution that is shown are written."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from pytest_redisq import interrupts

#: A record, and the handler that was to write it.
HeldRecord: TypeAlias = tuple[logging.Handler, logging.LogRecord]


@contextlib.contextmanager
def logs_held_back() -> Iterator[list[HeldRecord]]:
    """Hold back what handlers are to write during the block, of all threads; `write` writes it.

    Handlers that collect records, as those of pytest's `caplog`, get them at once: the scenario may look at them. What
    they collected in the block is taken out at its end.
    """
    held: list[HeldRecord] = []
    collected = [_Collected.of(handler) for handler in logging.getLogger().handlers if _collects(handler)]
    real = logging.Handler.handle

    def handle(self: logging.Handler, record: logging.LogRecord) -> Any:
        if _collects(self):
            return real(self, record)
        held.append((self, _frozen(record)))
        return True

    try:
        logging.Handler.handle = handle  # type: ignore[method-assign]
        yield held
    finally:
        with interrupts.deferred():
            logging.Handler.handle = real  # type: ignore[method-assign]
            for each in collected:
                held += each.take_out()


def write(records: Iterable[HeldRecord]) -> None:
    """Write records that were held back."""
    for handler, record in records:
        handler.handle(record)


@dataclass(frozen=True, slots=True)
class _Collected:
    """What a handler with `records` had collected: how many, and how much text in which stream."""

    handler: Any
    records: int
    stream: object
    characters: int

    @classmethod
    def of(cls, handler: Any) -> _Collected:
        stream = getattr(handler, "stream", None)
        return cls(handler, len(handler.records), stream, stream.tell() if isinstance(stream, io.StringIO) else 0)

    def take_out(self) -> list[HeldRecord]:
        """Take out what has been collected since."""
        stream = getattr(self.handler, "stream", None)
        is_new = stream is not self.stream  # it has been cleared
        start = 0 if is_new else self.records
        later = [(self.handler, _frozen(record)) for record in self.handler.records[start:]]
        del self.handler.records[start:]
        if isinstance(stream, io.StringIO):
            stream.seek(0 if is_new else self.characters)
            stream.truncate()
        return later


def _collects(handler: logging.Handler) -> bool:
    return isinstance(getattr(handler, "records", None), list)


def _frozen(record: logging.LogRecord) -> logging.LogRecord:
    """The record with its text as it is now, and without the frames of a traceback, which hold on to objects."""
    with contextlib.suppress(Exception):  # a wrong format, which the handler reports
        record.msg, record.args = record.getMessage(), None
    if record.exc_info:
        record.exc_text = record.exc_text or logging.Formatter().formatException(record.exc_info)
        record.exc_info = None
    return record
