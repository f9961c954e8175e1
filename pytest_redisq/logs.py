"""Log records of many processes, handled once, by the handlers of one process.

The pattern is the logging cookbook's: a `QueueHandler` in each child, one `QueueListener` in the parent, which owns the
real handlers. The queue between them is not a `multiprocessing.Queue`, because that has one lock for all its writers
and a feeder thread in each: a child killed while it holds the lock silences its siblings for good, and what sat in its
feeder is gone. Here every child has a connection of its own, and a record is in the kernel when the logging call
returns. So a child killed at any moment takes at most the one record that it was writing, blocks nobody, and there is
nothing to flush at exit. And what a child needs to know is plain data: it passes through `Process` arguments, pool
initialisers and pool tasks alike.
"""

from __future__ import annotations

import copy
import hmac
import logging
import os
import pickle
import secrets
import selectors
import shutil
import socket
import struct
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler, QueueListener
from typing import Any, NamedTuple

from pytest_redisq import interrupts
from pytest_redisq.errors import RedisqError
from pytest_redisq.servers.temporary_folder import temporary_folder

_LENGTH = struct.Struct("!I")
#: Bytes of the secret by which a child shows that it may send; what it sends is unpickled.
_TOKEN_BYTES = 32
#: How long a collector that closes goes on reading from children that go on sending.
_CLOSING_SECONDS = 10.0
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What a child needs in order to log to the process that collects. Plain data: pass it by any road."""

    address: str
    token: bytes
    #: The process that collects: `attach` does nothing there.
    process: int
    #: Levels set on the parent's loggers, for children that do not inherit them (spawn, forkserver).
    levels: tuple[tuple[str, int], ...]

    def attach(self, worker: str = "") -> None:
        """Send every record of this process to the collecting process from now on; call it first thing in a child.

        The process's present handlers are taken off, for the parent has them; handlers added later are left alone.
        Levels and filters of this process's loggers hold; levels that it has not set are the parent's. Each record
        carries `worker`. A second call replaces the first. `RedisqError` where nobody collects any more.
        """
        if os.getpid() == self.process:
            return
        outbox = _Outbox(self.address, self.token)
        try:
            outbox.connect()
        except OSError as error:
            text = (
                f"Nobody collects log records for this process any more ({error}): attach inside `with collect_logs()`."
            )
            raise RedisqError(text) from error
        _take_over(_Link(outbox, worker))
        _adopt_levels(self.levels)


class Logs:
    """Log records being collected; made by `collect_logs`."""

    def __init__(self, inbox: _Inbox, listener: _Listener) -> None:
        self._inbox = inbox
        self._listener = listener

    @property
    def config(self) -> LogConfig:
        """To be handed to a child, which calls its `attach()`; holds the log levels as they are now."""
        levels = tuple((name, logger.level) for name, logger in _loggers().items() if logger.level != logging.NOTSET)
        return LogConfig(address=self._inbox.address, token=self._inbox.token, process=os.getpid(), levels=levels)

    def start(self) -> None:
        """Begin to handle records; until then they wait (and with them, once the kernel's buffers are full, their
        senders).
        """
        self._listener.start()


@contextmanager
def collect_logs(*, start: bool = True) -> Iterator[Logs]:
    """Handle the log records of child processes here, by this process's own loggers and handlers, until the block ends.

    ```python
    def work(logs: LogConfig) -> None:
        logs.attach()
        logging.getLogger("jobs").warning("one")

    with collect_logs() as logs:
        process = multiprocessing.Process(target=work, args=(logs.config,))
        ...                                              # or Pool(initializer=logs.config.attach)
    ```

    Every record arrives once and whole: message and arguments, exception (its traceback as text), extra attributes,
    process and thread names; what cannot be pickled arrives as its `repr`. Records of children that have ended by the
    end of the block have then all been handled. `start=False` leaves the thread unstarted, so that children can be
    forked before there is one; then call `Logs.start()`. An exception raised by a handler is raised at the end of the
    block.
    """
    inbox = _Inbox()
    listener = _Listener(inbox)
    logs = Logs(inbox, listener)
    try:
        if start:
            logs.start()
        yield logs
    finally:
        listener.finish()
        inbox.close()
    if listener.errors:
        raise listener.errors[0]


class _Rich(NamedTuple):
    """A value that may not survive the journey, and what to show if it does not."""

    pickled: bytes
    shown: str


class _Link(QueueHandler):
    """The one handler of a child: takes each record apart and sends it."""

    def __init__(self, outbox: _Outbox, worker: str) -> None:
        super().__init__(outbox)  # type: ignore[arg-type]  # it needs no more of a queue than put_nowait
        self._worker = worker

    def prepare(self, record: logging.LogRecord) -> dict[str, object]:
        record = copy.copy(record)
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_info:
            record.exc_info = (record.exc_info[0], record.exc_info[1], None)  # type: ignore[assignment]
        fields = {name: _pack(value) for name, value in vars(record).items() if name not in ("msg", "args")}
        # What was said travels as one, for a message without its arguments is none; beside it, the text it amounts to.
        fields["said"], fields["message"] = _said(record)
        fields.setdefault("worker", self._worker)
        return fields


class _Outbox:
    """The sending end, one for each process; a forked child that inherits it opens a connection of its own."""

    def __init__(self, address: str, token: bytes) -> None:
        self._address = address
        self._token = token
        self._socket: socket.socket | None = None
        self._process = 0

    def connect(self) -> None:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(self._address)
            link.sendall(_frame(self._token))
        except BaseException:
            link.close()
            raise
        self._socket, self._process = link, os.getpid()

    def put_nowait(self, fields: Mapping[str, object]) -> None:
        """Send one record. Where nobody collects any more, it is dropped: there is nowhere to say so."""
        frame = _frame(pickle.dumps(fields))
        try:
            if self._socket is None or self._process != os.getpid():
                self.close()
                self.connect()
            assert self._socket is not None
            self._socket.sendall(frame)
        except OSError:
            self.close()
        except BaseException:
            # Interrupted, perhaps in the middle of a frame: what follows must not be taken for its rest.
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Listener(QueueListener):
    """Hands each record to the logger of its name here, past that logger's level and filters: the child has applied its
    own.
    """

    def __init__(self, inbox: _Inbox) -> None:
        super().__init__(inbox)  # it needs no more of a queue than get and put_nowait
        self._started = False
        self.errors: list[Exception] = []

    def start(self) -> None:
        with interrupts.deferred():  # half started, it could not be stopped
            self._started = True
            super().start()

    def finish(self) -> None:
        """Handle what has been sent by now, then end the thread."""
        if not self._started:
            self.start()
        self.stop()

    def handle(self, record: logging.LogRecord) -> None:
        try:
            logging.getLogger(record.name).callHandlers(record)
        except Exception as error:
            self.errors.append(error)


class _Inbox:
    """The receiving end: a queue of records to its listener, a socket to which each sender connects to the world."""

    def __init__(self) -> None:
        self.token = secrets.token_bytes(_TOKEN_BYTES)
        self._directory: str | None = None
        if sys.platform == "linux":
            # The abstract namespace: no file, so none is left behind whatever signal ends this process.
            self.address = f"\0redisq-logs-{secrets.token_hex(8)}"
        else:
            self._directory = tempfile.mkdtemp(prefix="logs-", dir=temporary_folder())
            self.address = os.path.join(self._directory, "logs")
        self._senders: dict[socket.socket, _Sender] = {}
        self._records: deque[logging.LogRecord] = deque()
        self._selector = selectors.DefaultSelector()
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(self.address)
        self._door.listen(socket.SOMAXCONN)
        self._door.setblocking(False)
        self._bell, self._ring = socket.socketpair()
        self._closing: float | None = None
        self._selector.register(self._door, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        _INBOXES.add(self)

    def get(self, block: bool = True) -> logging.LogRecord | None:
        """The next record; None once closing and nothing more is there to be read."""
        assert block
        while not self._records:
            events = self._selector.select(None if self._closing is None else 0)
            if self._closing is not None and (not events or time.monotonic() > self._closing + _CLOSING_SECONDS):
                return None
            for key, _ in events:
                self._receive(key.fileobj)  # type: ignore[arg-type]
        return self._records.popleft()

    def put_nowait(self, _sentinel: None) -> None:
        """The listener is to end: wake it."""
        self._ring.send(b"!")

    def _receive(self, ready: socket.socket) -> None:
        if ready is self._bell:
            self._closing = time.monotonic()
            self._selector.unregister(self._bell)
        elif ready is self._door:
            with suppress(BlockingIOError, ConnectionError):
                sender, _ = self._door.accept()
                self._senders[sender] = _Sender(self.token)
                self._selector.register(sender, selectors.EVENT_READ)
        elif not self._read(ready):
            self._selector.unregister(ready)
            del self._senders[ready]
            ready.close()

    def _read(self, ready: socket.socket) -> bool:
        """Take in what one sender sent; whether it is still there, and one of ours."""
        try:
            data = ready.recv(1 << 16)
            self._records.extend(self._senders[ready].feed(data))
        except OSError:
            return False
        return bool(data)

    def close(self) -> None:
        for sender in self._senders:
            # Also where some forked process holds a copy of it: a sender still alive must not wait for a reader for
            # ever.
            with suppress(OSError):
                sender.shutdown(socket.SHUT_RDWR)
        self.abandon()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def abandon(self) -> None:
        """Close every descriptor, and touch nothing that a forked process shares with its parent."""
        _INBOXES.discard(self)
        self._selector.close()
        for end in (self._door, self._bell, self._ring, *self._senders):
            end.close()


class _Sender:
    """One connection's bytes, cut into records (sans IO)."""

    def __init__(self, token: bytes) -> None:
        self._token: bytes | None = token
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[logging.LogRecord]:
        """The records that `data` completes; `PermissionError` where the connection does not open with the token."""
        self._buffer += data
        records = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if self._token is not None and length != _TOKEN_BYTES:
                raise PermissionError
            if len(self._buffer) < _LENGTH.size + length:
                break
            frame = bytes(self._buffer[_LENGTH.size : _LENGTH.size + length])
            del self._buffer[: _LENGTH.size + length]
            if self._token is None:
                records.append(_unpack(pickle.loads(frame)))
            elif hmac.compare_digest(frame, self._token):
                self._token = None
            else:
                raise PermissionError
        return records


_INBOXES: weakref.WeakSet[_Inbox] = weakref.WeakSet()


def _abandon_inherited() -> None:
    # A forked child that kept its parent's ends open would keep its siblings from noticing that the parent is gone.
    for inbox in list(_INBOXES):
        inbox.abandon()


os.register_at_fork(after_in_child=_abandon_inherited)


def _frame(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _said(record: logging.LogRecord) -> tuple[object, str]:
    """The record's message and arguments, packed (nothing where they do not fit each other), and their text."""
    try:
        return _pack((record.msg, record.args)), record.getMessage()
    except Exception as error:
        return None, f"{record.msg!r} % {record.args!r} cannot be formatted: {error!r}"


def _pack(value: Any) -> object:
    if type(value) in _PLAIN:
        return value
    try:
        shown = repr(value)
    except Exception as error:
        shown = f"<{type(value).__name__}, whose repr raised {error!r}>"
    try:
        return _Rich(pickle.dumps(value), shown)
    except Exception:
        return shown


def _unpack(fields: dict[str, Any]) -> logging.LogRecord:
    values = dict(fields)
    for name, value in fields.items():
        if isinstance(value, _Rich):
            try:
                values[name] = pickle.loads(value.pickled)
            except Exception:
                values[name] = value.shown
    said = values.pop("said")
    values["msg"], values["args"] = said if isinstance(said, tuple) else (values["message"], None)
    if isinstance(values["exc_info"], str):
        values["exc_info"] = None
    return logging.makeLogRecord(values)


def _loggers() -> dict[str, logging.Logger]:
    named = {name: it for name, it in logging.root.manager.loggerDict.items() if isinstance(it, logging.Logger)}
    return {"root": logging.root} | named


def _take_over(link: _Link) -> None:
    """Make `link` the only handler: on the root, and on each logger that does not pass its records on."""
    for logger in _loggers().values():
        had_handlers = bool(logger.handlers)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        if logger is logging.root or (had_handlers and not logger.propagate):
            logger.addHandler(link)


def _adopt_levels(levels: tuple[tuple[str, int], ...]) -> None:
    for name, level in levels:
        logger = logging.getLogger(None if name == "root" else name)
        unset = logging.WARNING if logger is logging.root else logging.NOTSET
        if logger.level == unset:
            logger.setLevel(level)
