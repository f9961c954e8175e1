"""The interface of the kinds of server that redisq starts: Docker, a process, the embedded binary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pytest_redisq.options import Settings
from pytest_redisq.servers.supervisor import Supervisor

How = Literal["docker", "process", "embedded", "url"]

#: Logical databases of a server that redisq starts. Each pytest process takes a few, and its tests rotate through them.
#: A thousand cost half a megabyte and no time at boot.
DATABASES = 1024


#: If the supervisor's folder has this subfolder, a server in a container also listens on a unix socket there.
SOCKET_FOLDER = "socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A server that has answered PING. `detail` names it in the header: "image valkey:9.1", "/usr/bin/redis-server"."""

    url: str
    detail: str
    #: Where else it listens: the path of a unix socket.
    socket: Path | None = None


class Backend(Protocol):
    """Modules fit, too: `servers/process.py` is one."""

    def missing(self, settings: Settings) -> str | None:
        """The reason why this kind of server is not available on this machine; None if it is. `auto` shows the reason.

        Starts no server and costs a second at most, save that it may fetch what a start needs (an image): `auto`
        takes the first way that misses nothing, and then an error of `launch` is final.
        """
        ...

    def launch(self, settings: Settings, supervisor: Supervisor) -> Launched:
        """Start a supervisor's script on `supervisor.directory`, and by it a server; return when it has answered PING.

        Raises ServerError, within about a second of the cause, if it dies or cannot be started: what happened, the
        server's last log lines, what to do. The caller then releases the supervisor, which must clear everything away.
        """
        ...
