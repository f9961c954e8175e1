"""The proxy's listening sockets, and one connection of an actor with the state that the proxy keeps for it."""

from __future__ import annotations

import os
import socket
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pytest_redisq import interrupts
from pytest_redisq.explore.connection_state import ConnectionState, HeldCommand
from pytest_redisq.explore.schedule import EnabledStep, StepKind
from pytest_redisq.resp import Request, RequestParser, UnparsedBytes
from pytest_redisq.servers.server_connection import ServerConnection
from pytest_redisq.servers.temporary_folder import temporary_folder

#: The longest path of a unix socket: macOS allows four bytes less than Linux.
_PATH_BYTES = 103


def listen_at(path: Path | None) -> tuple[socket.socket, str]:
    """A listening socket and its URL: a unix socket at `path`; a free port if it is None, or too long for a socket."""
    if path is not None and len(os.fsencode(path)) <= _PATH_BYTES:
        listening, url = socket.socket(socket.AF_UNIX), f"unix://{path}"
        listening.bind(os.fspath(path))
    else:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{listening.getsockname()[1]}"
    listening.listen(128)
    listening.setblocking(False)
    return listening, url


class ActorListeners:
    """The listening sockets of the actors, each made when its URL is first asked for. `made` is called with it."""

    def __init__(self, made: Callable[[socket.socket, int], None]) -> None:
        self._made = made
        self._directory = tempfile.TemporaryDirectory(prefix="explore-", dir=temporary_folder())
        self._sockets: list[socket.socket] = []
        self._urls: list[tuple[str, str]] = []
        #: The sockets' addresses, as `getpeername` of a client returns them.
        self.addresses: set[object] = set()

    @interrupts.deferred()
    def url(self, actor: int, *, tcp: bool) -> str:
        """The URL for the actor of this number: a unix socket unless `tcp`."""
        while len(self._urls) <= actor:
            index = len(self._urls)
            (unix, unix_url), (inet, inet_url) = (
                listen_at(Path(self._directory.name) / f"{index}.sock"),
                listen_at(None),
            )
            for listening in (unix, inet):
                self._sockets.append(listening)
                self.addresses.add(listening.getsockname())
                self._made(listening, index)
            self._urls.append((unix_url, inet_url))
        return self._urls[actor][tcp]

    def close(self) -> None:
        """Close the sockets, and remove their folder."""
        for listening in self._sockets:
            listening.close()
        self._directory.cleanup()


@dataclass(eq=False, slots=True)
class ProxiedConnection:
    """One connection of an actor, and the proxy's connection to the server behind it."""

    actor: int
    client: socket.socket
    server: ServerConnection
    state: ConnectionState
    requests: RequestParser = field(default_factory=RequestParser)
    queue: deque[Request | UnparsedBytes] = field(default_factory=deque)
    #: The command that waits to be chosen.
    held: HeldCommand | None = None
    #: The command that is blocked in the server, and the kind of step that will handle its reply.
    blocked: HeldCommand | None = None
    blocked_kind: StepKind = StepKind.RUN
    #: When the blocked command times out, in virtual time; None: never.
    deadline: float | None = None
    #: When the held command's delay, or the pause of its actor, ends, in virtual time; None: there is none.
    paused_until: float | None = None
    #: When the delay or the pause began.
    paused_at: float = 0.0
    #: Its number among its actor's connections in this execution, from 1; 0: it has not held a command yet.
    number: int = 0
    #: `held` as a step that can be chosen, cached until something about it changes.
    enabled: EnabledStep | None = None
    raw: bool = False
    unsent: bytes = b""
    open: bool = True
    #: Whether the client has closed its side, while the server still has its command, or is still to get it.
    abandoned: bool = False
