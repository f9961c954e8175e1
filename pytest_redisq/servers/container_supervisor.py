"""The container supervisor: a process on this machine that creates a container, forwards to it, and deletes it.

Run as `python -I -S container_supervisor.py ADDRESS CONTAINER DIRECTORY` with the lease as standard input, in its own
session, so that Ctrl-C does not reach it.

Law: when the last holder of the lease is gone, the container is deleted and the directory removed, whatever signal
ended the holders and however far the container had started. One process creates and supervises, so there is no moment
between the two. If this process is killed, the stdin of the container closes, the supervisor script in it ends, and the
daemon removes the container.

It imports little of the standard library and nothing else, and so works 20 ms after its start, long before a client
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

#: How long a daemon may take to answer one request, in seconds; it takes some milliseconds.
ANSWER_SECONDS = 10.0
#: How long it may take to create or to start a container, in seconds; it takes a third of one.
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
    """One HTTP request, `body` being JSON: the answer's status, head and body; raises `OSError`."""
    head = f"{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with connect(address, seconds) as link:
        link.sendall(head.encode() + b"\r\n\r\n" + body)
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    words = answer.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise OSError(f"no HTTP came back but {answer[:40]!r}")
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
    """Docker's multiplexed stream taken apart: `feed` bytes, get `(stream, payload)`; 1 is stdout, 2 is stderr."""

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
    """Delete the container, until the daemon knows it no more; a daemon that does not answer is given up in time."""
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
    """Between the lease and one container: orders go in, what the supervisor and the server say comes out into files.

    One order is its own: `create` makes the container that `container.json` describes, starts it, and leaves in
    `answer` the step that it reached, the status and the daemon's words (of an `inspect`, if all went well). The other
    orders are the supervisor's, whose answers go to `events` and the server's output to `log`, as if it ran right here.
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
            # All at once, since another run may be about to make the same folder anew.
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
        else:  # the streams of what did not start end now, but the answer is yet to be read: wait for the lease's end
            self._link.close()
            self._link = None

    def _do(self, step: str, method: str, path: str, body: bytes = b"", *, final: bool = False) -> bool:
        """One step of creating; if it fails, or is the final one, the answer is told."""
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
