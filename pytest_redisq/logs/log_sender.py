"""The sending side, in a child process: one handler that sends every record to the collecting process."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import socket
from collections.abc import Mapping
from logging.handlers import QueueHandler

from pytest_redisq.logs.log_records import length_prefixed, message_of, pack


class LogSender(QueueHandler):
    """The only handler of a child process: packs and sends each record."""

    def __init__(self, connection: LogConnection, worker: str) -> None:
        super().__init__(connection)  # type: ignore[arg-type]  # a QueueHandler only uses put_nowait
        self._worker = worker

    def prepare(self, record: logging.LogRecord) -> dict[str, object]:
        record = copy.copy(record)
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_info:
            record.exc_info = (record.exc_info[0], record.exc_info[1], None)  # type: ignore[assignment]
        fields = {name: pack(value) for name, value in vars(record).items() if name not in ("msg", "args")}
        # Message and arguments are packed together, since one is useless without the other; and also their text.
        fields["said"], fields["message"] = message_of(record)
        fields.setdefault("worker", self._worker)
        return fields


class LogConnection:
    """The sending end, one for each process. A forked child opens its own connection."""

    def __init__(self, address: str, token: bytes) -> None:
        self._address = address
        self._token = token
        self._socket: socket.socket | None = None
        self._process = 0

    def connect(self) -> None:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(self._address)
            link.sendall(length_prefixed(self._token))
        except BaseException:
            link.close()
            raise
        self._socket, self._process = link, os.getpid()

    def put_nowait(self, fields: Mapping[str, object]) -> None:
        """Send one record. It is dropped if the collecting process has stopped collecting."""
        frame = length_prefixed(pickle.dumps(fields))
        try:
            if self._socket is None or self._process != os.getpid():
                self.close()
                self.connect()
            assert self._socket is not None
            self._socket.sendall(frame)
        except OSError:
            self.close()
        except BaseException:
            # The interrupt may have come in the middle of a frame. The next frame must not be taken for its rest.
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def loggers() -> dict[str, logging.Logger]:
    named = {name: it for name, it in logging.root.manager.loggerDict.items() if isinstance(it, logging.Logger)}
    return {"root": logging.root} | named


def replace_handlers(link: LogSender) -> None:
    """Make `link` the only handler of the root logger and of each logger that does not propagate its records."""
    for logger in loggers().values():
        had_handlers = bool(logger.handlers)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        if logger is logging.root or (had_handlers and not logger.propagate):
            logger.addHandler(link)


def adopt_levels(levels: tuple[tuple[str, int], ...]) -> None:
    for name, level in levels:
        logger = logging.getLogger(None if name == "root" else name)
        unset = logging.WARNING if logger is logging.root else logging.NOTSET
        if logger.level == unset:
            logger.setLevel(level)
