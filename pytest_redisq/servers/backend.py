"""The interface of the kinds of server that redisq starts: Docker, a process, the embedded binary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pytest_redisq.options import Settings
from pytest_redisq.servers.supervisor import Supervisor

ServerKind = Literal["docker", "process", "embedded", "url"]

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
    #: The path of a unix socket on which it also listens; None: no unix socket.
    socket: Path | None = None


class Backend(Protocol):
    """Starts servers of one kind. A module can be a backend: `servers/process.py` is one."""

    def missing(self, settings: Settings) -> str | None:
        """The reason why this kind of server is not available on this machine; None if it is. `auto` shows the reason.

        Starts no server and takes a second at most. `auto` takes the first kind that is available. An error of `launch`
        is then final.
        """
        ...

    def launch(self, settings: Settings, supervisor: Supervisor) -> Launched:
        """Start the supervisor's script and through it a server; return when the server has answered PING.

        Raises ServerError, within about a second, if the server dies or cannot be started. The error has the server's
        last log lines and says what to do. The caller then releases the supervisor, which removes everything.
        """
        ...
