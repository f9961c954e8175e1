"""The connection between the runner and each worker process: go, stop, and whether the other end has died.

A worker connects, also one that a pool has started as a replacement. It sends the token and its slot, and then waits
for words. When the runner dies, by any signal, the kernel closes the connection, and the worker ends at once.
"""

from __future__ import annotations

import hmac
import os
import secrets
import signal
import socket
import struct
import sys
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_redisq import interrupts

_HELLO = struct.Struct("!32sIQ")  # token, slot, process id
#: How long a process that connects may take to send its token, in seconds.
_HELLO_SECONDS = 1.0

GO = b"g"
#: The slot of processes that only need to know when the runner has died.
NO_SLOT = 0xFFFF_FFFF
STOP = b"s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelAddress:
    """The address of the runner's socket, and the token that a worker must send."""

    address: str
    token: bytes

    def connect(self, slot: int) -> socket.socket:
        """Connect, and send the token and the slot. Raises `OSError` if the runner has died."""
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(self.address)
            line.sendall(_HELLO.pack(self.token, slot, os.getpid()))
        except BaseException:
            line.close()
            raise
        return line


class ControlServer:
    """The runner's end of the connections of all workers."""

    def __init__(self, directory: Path) -> None:
        token = secrets.token_bytes(32)
        # On Linux in the abstract namespace, where no path is too long.
        linux = sys.platform == "linux"
        address = f"\0redisq-line-{secrets.token_hex(8)}" if linux else str(directory / "line")
        self.number: ChannelAddress = ChannelAddress(address=address, token=token)
        self._lines: dict[int, socket.socket] = {}
        self._processes: dict[int, int] = {}
        self._listeners: list[socket.socket] = []
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(address)
        self._door.listen(socket.SOMAXCONN)
        self._door.setblocking(False)
        _SERVERS.add(self)

    @interrupts.deferred()
    def accept(self) -> list[int]:
        """Accept all waiting connections. Returns the slots of the workers that connected."""
        connected: list[int] = []
        while True:
            try:
                line, _ = self._door.accept()
            except BlockingIOError:
                return connected
            line.settimeout(_HELLO_SECONDS)
            try:
                token, slot, process = _HELLO.unpack(line.recv(_HELLO.size, socket.MSG_WAITALL))
            except (OSError, struct.error):
                token = b""
            if not hmac.compare_digest(token, self.number.token):
                line.close()
            elif slot == NO_SLOT:
                self._listeners.append(line)
            else:
                line.setblocking(False)
                self._lines[slot] = line
                self._processes[slot] = process
                connected.append(slot)

    def connected(self, slot: int) -> bool:
        return slot in self._lines

    def disconnected(self, slot: int) -> bool:
        """Whether the worker has connected, and its process has ended."""
        line = self._lines.get(slot)
        if line is None:
            return False
        try:
            return line.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def send(self, slot: int, word: bytes) -> None:
        line = self._lines.get(slot)
        if line is not None:
            with suppress(OSError):
                line.send(word)

    def send_start(self, slot: int) -> None:
        """Let it begin."""
        self.send(slot, GO)

    def kill(self, slot: int) -> None:
        """SIGKILL the worker's process, if it has called and not ended: its id cannot be another's then."""
        if slot in self._lines and not self.disconnected(slot):
            with suppress(ProcessLookupError):
                os.kill(self._processes[slot], signal.SIGKILL)

    def close(self) -> None:
        """Hang up on everybody (also where a forked process holds copies of the lines), on listeners with a word."""
        for listener in self._listeners:
            with suppress(OSError):
                listener.send(STOP)
        for line in (*self._lines.values(), *self._listeners):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        self.abandon()

    def abandon(self) -> None:
        _SERVERS.discard(self)
        for line in (self._door, *self._lines.values(), *self._listeners):
            line.close()


_SERVERS: weakref.WeakSet[ControlServer] = weakref.WeakSet()


def _abandon_inherited() -> None:
    # A forked worker that kept its siblings' lines open would keep them from noticing that the runner is gone.
    for server in list(_SERVERS):
        server.abandon()


os.register_at_fork(after_in_child=_abandon_inherited)
