"""The receiving side, in the collecting process: a socket for all senders, and the thread that handles records."""

from __future__ import annotations

import hmac
import logging
import os
import pickle
import secrets
import selectors
import shutil
import socket
import sys
import tempfile
import time
import weakref
from collections import deque
from contextlib import suppress
from logging.handlers import QueueListener

from pytest_redisq import interrupts
from pytest_redisq.logs.log_records import LENGTH, TOKEN_BYTES, unpack
from pytest_redisq.servers.temporary_folder import temporary_folder

#: Seconds that a closing collector continues to read from children that continue to send.
_CLOSING_SECONDS = 10.0


class LogListener(QueueListener):
    """Passes each record to the handlers of the logger of its name, without that logger's level and filters.

    The child has already applied its own.
    """

    def __init__(self, receiver: LogReceiver) -> None:
        super().__init__(receiver)  # a QueueListener only uses get and put_nowait
        self._started = False
        self.errors: list[Exception] = []

    def start(self) -> None:
        with interrupts.deferred():  # an interrupt could leave a thread that cannot be stopped
            self._started = True
            super().start()

    def finish(self) -> None:
        """Handle all records sent so far, then end the thread."""
        if not self._started:
            self.start()
        self.stop()

    def handle(self, record: logging.LogRecord) -> None:
        try:
            logging.getLogger(record.name).callHandlers(record)
        except Exception as error:
            self.errors.append(error)


class LogReceiver:
    """The receiving end: a queue of records for its listener, and a socket to which each sender connects."""

    def __init__(self) -> None:
        self.token: bytes = secrets.token_bytes(TOKEN_BYTES)
        self._directory: str | None = None
        if sys.platform == "linux":
            # The abstract namespace has no file, so none is left behind when a signal ends this process.
            self.address: str = f"\0redisq-logs-{secrets.token_hex(8)}"
        else:
            self._directory = tempfile.mkdtemp(prefix="logs-", dir=temporary_folder())
            self.address = os.path.join(self._directory, "logs")
        self._senders: dict[socket.socket, _RecordParser] = {}
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
        _RECEIVERS.add(self)

    def get(self, block: bool = True) -> logging.LogRecord | None:
        """The next record; None if the receiver is closing and has nothing more to read."""
        assert block
        while not self._records:
            events = self._selector.select(None if self._closing is None else 0)
            if self._closing is not None and (not events or time.monotonic() > self._closing + _CLOSING_SECONDS):
                return None
            for key, _ in events:
                self._receive(key.fileobj)  # type: ignore[arg-type]
        return self._records.popleft()

    def put_nowait(self, _sentinel: None) -> None:
        """Wake the listener, so that it ends."""
        self._ring.send(b"!")

    def _receive(self, ready: socket.socket) -> None:
        if ready is self._bell:
            self._closing = time.monotonic()
            self._selector.unregister(self._bell)
        elif ready is self._door:
            with suppress(BlockingIOError, ConnectionError):
                sender, _ = self._door.accept()
                self._senders[sender] = _RecordParser(self.token)
                self._selector.register(sender, selectors.EVENT_READ)
        elif not self._read(ready):
            self._selector.unregister(ready)
            del self._senders[ready]
            ready.close()

    def _read(self, ready: socket.socket) -> bool:
        """Read the bytes from one sender. Returns whether it is still connected and has sent the right token."""
        try:
            data = ready.recv(1 << 16)
            self._records.extend(self._senders[ready].feed(data))
        except OSError:
            return False
        return bool(data)

    def close(self) -> None:
        for sender in self._senders:
            # A forked process may have a copy of the socket. Without the shutdown a sender could wait for a reader
            # without end.
            with suppress(OSError):
                sender.shutdown(socket.SHUT_RDWR)
        self.abandon()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def abandon(self) -> None:
        """Close every descriptor, without a shutdown: a forked process shares the connections with its parent."""
        _RECEIVERS.discard(self)
        self._selector.close()
        for end in (self._door, self._bell, self._ring, *self._senders):
            end.close()


class _RecordParser:
    """Parses one connection's bytes into records, without IO."""

    def __init__(self, token: bytes) -> None:
        self._token: bytes | None = token
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[logging.LogRecord]:
        """The records that `data` completes. Raises PermissionError if the connection does not begin with the token."""
        self._buffer += data
        records = []
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if self._token is not None and length != TOKEN_BYTES:
                raise PermissionError
            if len(self._buffer) < LENGTH.size + length:
                break
            frame = bytes(self._buffer[LENGTH.size : LENGTH.size + length])
            del self._buffer[: LENGTH.size + length]
            if self._token is None:
                records.append(unpack(pickle.loads(frame)))
            elif hmac.compare_digest(frame, self._token):
                self._token = None
            else:
                raise PermissionError
        return records


_RECEIVERS: weakref.WeakSet[LogReceiver] = weakref.WeakSet()


def _abandon_inherited() -> None:
    # If a forked child kept its parent's sockets open, its siblings would not notice that the parent is gone.
    for receiver in list(_RECEIVERS):
        receiver.abandon()


os.register_at_fork(after_in_child=_abandon_inherited)
