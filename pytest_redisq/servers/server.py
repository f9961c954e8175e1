"""One `Server`, whichever way it was had."""

from __future__ import annotations

import contextlib
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, cast, overload
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio

from pytest_redisq.errors import ServerError
from pytest_redisq.secret import Secret, Url, without_secrets
from pytest_redisq.servers.abandoned_folders import end_and_remove
from pytest_redisq.servers.address import Address
from pytest_redisq.servers.backend import How
from pytest_redisq.servers.boot import boot
from pytest_redisq.servers.external import explained
from pytest_redisq.servers.supervisor import Supervisor, wait_until
from pytest_redisq.spelling import suggest

Flavour = Literal["redis", "valkey"]

#: How long a graceful SHUTDOWN may take, a last save included, in seconds.
_SHUTDOWN_SECONDS = 10.0


class Server:
    """A running Redis or Valkey. Thread-safe.

    `url` reaches it, password included; `reason` says why it was chosen. A server of our own ends when the last
    process that holds it has called `stop` or has gone. Somebody else's server (`how` is "url") is never restarted,
    paused, killed or configured: those methods raise ServerError.
    """

    def __init__(
        self,
        *,
        url: str,
        how: How,
        detail: str,
        reason: str,
        supervisor: Supervisor | None = None,
        startup_seconds: float = 30.0,
        socket: Path | None = None,
    ) -> None:
        self.url: str = Url(url)
        self.how: How = how
        self.detail = detail
        self.reason = reason
        #: Whether this process has paused it.
        self.paused = False
        self.supervisor = supervisor
        self._startup_seconds = startup_seconds
        self._socket = socket
        self._lock = threading.RLock()
        self._control = self.client()
        self._commands: dict[str, bool] = {}
        identity = self.info("server")
        self.flavour: Flavour = "valkey" if "valkey_version" in identity else "redis"
        self.version = str(identity.get("valkey_version", identity.get("redis_version", "unknown")))

    def __repr__(self) -> str:
        return f"<Server {self.header()}>"

    def header(self) -> str:
        """What it is and why: "valkey 9.1.2, docker, image valkey:9.1 (--redisq-image)"."""
        return f"{self.flavour} {self.version}, {self.how}, {self.detail} ({self.reason})"

    def record(self) -> dict[str, Any]:
        """What another process needs to make a `Server` of it, together with a supervisor that has joined the lease."""
        return {
            "url": self.url,
            "how": self.how,
            "detail": self.detail,
            "reason": self.reason,
            "startup_seconds": self._startup_seconds,
        }

    @property
    def local_url(self) -> str:
        """The fastest way to it: its unix socket, if it has one that answers, else `url`."""
        if self._socket is None:
            return self.url
        login, at, _ = urlsplit(self.url).netloc.rpartition("@")
        url = Url(f"unix://{login}{at}{self._socket}?db=0")
        try:
            with Address(url=url).client() as client:
                client.ping()
        except (redis.RedisError, OSError):  # the daemon may run in a machine of its own, as on macOS
            return self.url
        return url

    def client(self, **options: Any) -> redis.Redis:
        """A new client that neither loses nor doubles by itself (see `Address.client`). The caller closes it."""
        return Address(url=self.url).client(**options)

    def async_client(self, **options: Any) -> redis.asyncio.Redis:
        """The same for asyncio."""
        return Address(url=self.url).async_client(**options)

    def can(self, command: str) -> bool:
        """Whether the server knows `command` ("LMPOP", "CLIENT UNBLOCK"): asked by COMMAND INFO, never by version."""
        name = "|".join(command.lower().split())
        if name not in self._commands:
            self._commands[name] = bool(self._ask("COMMAND INFO", name)[0])
        return self._commands[name]

    def info(self, section: str = "default") -> dict[str, Any]:
        """INFO, parsed."""
        with self._explained():
            return self._control.info(section)

    @overload
    def config(self, name: str) -> str: ...
    @overload
    def config(self, name: str, value: str | int) -> None: ...
    def config(self, name: str, value: str | int | None = None) -> str | None:
        """CONFIG GET; with a `value` CONFIG SET, which only servers of our own take."""
        if value is not None:
            self._own(f"configured (CONFIG SET {name})")
            self._ask("CONFIG", "SET", name, value)
            return None
        with self._explained():
            settings = cast(dict[str, str], self._control.config_get(name))
            if name in settings:
                return settings[name]
            known = cast(dict[str, str], self._control.config_get("*"))
        raise ServerError(f"{self.flavour} {self.version} has no setting {name!r}.{suggest(name, known)}")

    def log(self) -> str:
        """What the server has written to its log so far."""
        return self._own("asked for its log").log()

    def kill(self) -> None:
        """SIGKILL, now; back when it is dead. What it had not written to disk is lost, as in real life."""
        self._own("killed").order("kill")

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, like a machine that swaps or a network that stalls."""
        self._own("paused").order("pause")
        self.paused = True

    def resume(self) -> None:
        """SIGCONT, the end of `pause`."""
        self._own("resumed").order("resume")
        self.paused = False

    def restart(self) -> None:
        """Shut down in good order (if it runs) and start again at the same URL; back when it answers PING.

        What survives is what persistence saves: with "none" nothing.
        """
        supervisor = self._own("restarted")
        with self._lock:
            if supervisor.running():
                self.resume()
                self._shut_down(supervisor)
            where = urlsplit(self.url)
            boot(
                supervisor,
                str(where.hostname),
                where.port or 0,
                Secret(unquote(where.password or "")),
                seconds=self._startup_seconds,
                name=self.detail,
            )
            self._control.connection_pool.disconnect()

    def revive(self) -> None:
        """Make it answer again if somebody left it paused or dead."""
        if self.paused:
            self.resume()
        if self.supervisor and not self.supervisor.running():
            self.restart()

    def stop(self) -> None:
        """Let go of it, any number of times. When no process holds a server of ours it is gone in milliseconds."""
        self._control.close()
        self._control.connection_pool.disconnect()
        if self.supervisor and not self.supervisor.release():
            end_and_remove(self.supervisor.directory)

    def _shut_down(self, supervisor: Supervisor) -> None:
        with contextlib.suppress(redis.ConnectionError):
            self._control.shutdown()
        if not wait_until(lambda: not supervisor.running(), _SHUTDOWN_SECONDS):
            supervisor.order("kill")

    def _own(self, what: str) -> Supervisor:
        if self.supervisor is None:
            raise ServerError(
                f"The server at {without_secrets(self.url)} is not ours: it cannot be {what}.\n"
                "What to do: let redisq start a server (--redisq-server auto, docker, process or embedded)."
            )
        return self.supervisor

    def _ask(self, *words: str | int) -> Any:
        with self._explained():
            return cast(Any, self._control).execute_command(*words)

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.url)
