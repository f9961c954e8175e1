"""The container supervisor: a process on this machine that creates a container, forwards to it, and deletes it.

Run as `python -I -S container_supervisor.py ADDRESS CONTAINER DIRECTORY` with the lease as standard input, in its own
session, so that Ctrl-C does not reach it.

Law: when the last holder of the lease is gone, the container is deleted and the directory removed, whatever signal
ended the holders and however far the container had started. One process creates and supervises, so there is no moment
between the two. If this process is killed, the stdin of the container closes, the supervisor script in it ends, and the
daemon removes the container.

It imports only a few modules of the standard library. So it is ready 20 ms after its start, long before a client
library would be imported.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator

#: Seconds that a daemon may take to answer one request. It needs some milliseconds.
ANSWER_SECONDS = 10.0
#: Seconds that a daemon may take to create or to start a container. It needs a third of a second.
START_SECONDS = 60.0

#: The descriptor of the lease.
LEASE = 0

#: The file for each stream of the container; the supervisor speaks on stdout and leaves stderr to the server.
STREAMS = {1: "events", 2: "log"}


def connect(address: str, seconds: float = ANSWER_SECONDS) -> socket.socket:
    """A connection to the daemon at `unix://PATH` or `tcp://HOST:PORT`; raises `OSError`."""
    scheme, _, rest = address.partition("://")
    if scheme == "unix":
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(seconds)
        try:
            link.connect(rest)
        except OSError:
            link.close()
            raise
        return link
    host, _, port = rest.rstrip("/").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), seconds)


def ask(
    address: str, method: str, path: str, body: bytes = b"", seconds: float = ANSWER_SECONDS
) -> tuple[int, bytes, bytes]:
    """Send one HTTP request. `body`: JSON. Returns the status, head and body of the answer. Raises OSError."""
    head = f"{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with connect(address, seconds) as link:
        link.sendall(head.encode() + b"\r\n\r\n" + body)
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    words = answer.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise OSError(f"the answer is not HTTP: {answer[:40]!r}")
    top, _, rest = answer.partition(b"\r\n\r\n")
    return int(words[1]), top, rest


def attach(address: str, container: str) -> tuple[socket.socket, bytes]:
    """The container's standard streams as one socket, and the first bytes that already came through it."""
    link = connect(address)
    path = f"/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1"
    upgrade = "Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    link.sendall(f"POST {path} HTTP/1.1\r\n{upgrade}".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        more = link.recv(4096)
        if not more:
            link.close()
            raise OSError(f"the daemon closed the attach request: {head[:80]!r}")
        head += more
    head, _, first = head.partition(b"\r\n\r\n")
    if head.split(None, 2)[1] not in (b"101", b"200"):
        link.close()
        raise OSError(f"the daemon refused to attach: {head[:80]!r}")
    return link, first


class Frames:
    """Parses Docker's multiplexed stream: `feed` takes bytes and yields `(stream, payload)`; 1: stdout, 2: stderr."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        self._rest += data
        while len(self._rest) >= 8:
            size = 8 + int.from_bytes(self._rest[4:8], "big")
            if len(self._rest) < size:
                return
            stream, payload = self._rest[0], self._rest[8:size]
            self._rest = self._rest[size:]
            yield stream, payload


def delete(address: str, container: str) -> None:
    """Delete the container, and repeat that until the daemon reports that it is gone, or does not answer in time."""
    given_up = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < given_up:
        try:
            status, _, _ = ask(address, "DELETE", f"/containers/{container}?force=1&v=1")
        except OSError:
            status = 0
        if status == 404:
            return
        select.select([], [], [], 0.01)


class ContainerSupervisor:
    """Forwards orders from the lease to one container, and writes the output of its supervisor and server to files.

    It carries out one order itself: `create` creates and starts the container that `container.json` describes. Then
    `answer` has the last step, its status and the daemon's answer: that of `inspect`, if no step failed. All other
    orders go to the supervisor in the container. Its answers go to `events`, and the server's output to `log`, as they
    do for a supervisor on this machine.
    """

    def __init__(self, address: str, container: str, directory: str) -> None:
        self._address = address
        self._container = container
        self._directory = directory
        self._orders = b""
        self._asked = False
        self._link: socket.socket | None = None
        self._frames = Frames()

    def run(self) -> None:
        """Forward until the lease or the container ends, then delete what is left of it."""
        try:
            while self._step():
                pass
        finally:
            if self._link is not None:
                self._link.close()
            if self._asked:
                delete(self._address, self._container)
            # Renamed first, since another run may be about to create the same folder again.
            gone = f"{self._directory}.gone"
            with contextlib.suppress(OSError):
                os.rename(self._directory, gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _step(self) -> bool:
        waiting: list[int | socket.socket] = [LEASE] if self._link is None else [LEASE, self._link]
        ready, _, _ = select.select(waiting, [], [])
        if self._link in ready and not self._hear():
            return False
        return LEASE not in ready or self._obey()

    def _obey(self) -> bool:
        data = os.read(LEASE, 4096)
        *orders, self._orders = (self._orders + data).split(b"\n")
        for order in orders:
            token, _, what = order.partition(b" ")
            if what == b"create":
                self._create()
                self._write("events", b"done " + token + b"\n")
            elif self._link is not None:
                self._link.sendall(order + b"\n")
        return bool(data)

    def _create(self) -> None:
        self._asked = True
        with open(os.path.join(self._directory, "container.json"), "rb") as file:
            description = file.read()
        path = f"/containers/{self._container}"
        if not self._do("create", "POST", f"/containers/create?name={self._container}", description):
            return
        try:
            self._link, first = attach(self._address, self._container)
        except OSError as error:
            self._tell("attach", 0, str(error).encode())
            return
        self._link.settimeout(None)
        self._note(first)
        if self._do("start", "POST", f"{path}/start"):
            self._do("inspect", "GET", f"{path}/json", final=True)
        else:  # the container did not start; the answer has not been read yet, so wait for the end of the lease
            self._link.close()
            self._link = None

    def _do(self, step: str, method: str, path: str, body: bytes = b"", *, final: bool = False) -> bool:
        """Do one step of `create`; returns whether it succeeded. Writes the answer if it failed, or if it is final."""
        try:
            status, _, answer = ask(self._address, method, path, body, START_SECONDS)
        except OSError as error:
            status, answer = 0, str(error).encode()
        done = 200 <= status < 300
        if final or not done:
            self._tell(step, status, answer)
        return done

    def _tell(self, step: str, status: int, answer: bytes) -> None:
        self._write("answer", f"{step} {status}\n".encode() + answer)

    def _hear(self) -> bool:
        assert self._link is not None
        data = self._link.recv(65536)
        self._note(data)
        return bool(data)

    def _note(self, data: bytes) -> None:
        for stream, payload in self._frames.feed(data):
            self._write(STREAMS[stream], payload)

    def _write(self, name: str, payload: bytes) -> None:
        with open(os.path.join(self._directory, name), "ab") as file:
            file.write(payload)


if __name__ == "__main__":
    for unwanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(unwanted, signal.SIG_IGN)
    ContainerSupervisor(*sys.argv[1:]).run()
