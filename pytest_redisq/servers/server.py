"""`Server`: a running Redis or Valkey, of any kind."""

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
from pytest_redisq.servers.backend import ServerKind
from pytest_redisq.servers.boot import boot
from pytest_redisq.servers.external import explained
from pytest_redisq.servers.supervisor import Supervisor, wait_until
from pytest_redisq.spelling import suggest

Flavour = Literal["redis", "valkey"]

#: Seconds that SHUTDOWN may take, including a last save.
_SHUTDOWN_SECONDS = 10.0


class Server:
    """A running Redis or Valkey. Thread-safe.

    `url`: its URL with the password. `reason`: why it was chosen. A server that redisq started ends when the last
    process that holds its lease has called `stop` or is gone. The user's own server (`kind` is "url") is never
    restarted, paused, killed or configured: those methods raise ServerError. `shared`: whether clients of other
    processes may use it at the same time.
    """

    def __init__(
        self,
        *,
        url: str,
        kind: ServerKind,
        detail: str,
        reason: str,
        supervisor: Supervisor | None = None,
        startup_seconds: float = 30.0,
        socket: Path | None = None,
    ) -> None:
        self.url: str = Url(url)
        self.kind: ServerKind = kind
        self.detail = detail
        self.reason = reason
        self.shared: bool = kind == "url"
        #: Whether this process has paused it.
        self.paused: bool = False
        self.supervisor = supervisor
        self._startup_seconds = startup_seconds
        self._socket = socket
        self._lock = threading.RLock()
        self._control = self.client()
        self._commands: dict[str, bool] = {}
        identity = self.info("server")
        self.flavour: Flavour = "valkey" if "valkey_version" in identity else "redis"
        self.version: str = str(identity.get("valkey_version", identity.get("redis_version", "unknown")))

    def __repr__(self) -> str:
        return f"<Server {self.header()}>"

    def header(self) -> str:
        """One line with version, kind and reason: "valkey 9.1.2, docker, image valkey:9.1 (--redisq-image)"."""
        return f"{self.flavour} {self.version}, {self.kind}, {self.detail} ({self.reason})"

    def record(self) -> dict[str, Any]:
        """The arguments from which another process makes a `Server`, with a `Supervisor` that has joined the lease."""
        return {
            "url": self.url,
            "kind": self.kind,
            "detail": self.detail,
            "reason": self.reason,
            "startup_seconds": self._startup_seconds,
        }

    @property
    def local_url(self) -> str:
        """The URL of its unix socket, which is faster, if it has one that answers; `url` if not."""
        if self._socket is None:
            return self.url
        login, at, _ = urlsplit(self.url).netloc.rpartition("@")
        url = Url(f"unix://{login}{at}{self._socket}?db=0")
        try:
            with Address(url=url).client() as client:
                client.ping()
        except (redis.RedisError, OSError):  # the daemon may run in a virtual machine, as on macOS
            return self.url
        return url

    def client(self, **options: Any) -> redis.Redis:
        """A new client without socket timeout and without retries (see `Address.client`). The caller closes it."""
        return Address(url=self.url).client(**options)

    def async_client(self, **options: Any) -> redis.asyncio.Redis:
        """The same for asyncio."""
        return Address(url=self.url).async_client(**options)

    def can(self, command: str) -> bool:
        """Whether the server has `command` ("LMPOP", "CLIENT UNBLOCK"), by COMMAND INFO, not by its version."""
        name = "|".join(command.lower().split())
        if name not in self._commands:
            self._commands[name] = bool(self._ask("COMMAND INFO", name)[0])
        return self._commands[name]

    def info(self, section: str = "default") -> dict[str, Any]:
        """The parsed reply of INFO for `section`."""
        with self._explained():
            return self._control.info(section)

    @overload
    def config(self, name: str) -> str: ...
    @overload
    def config(self, name: str, value: str | int) -> None: ...
    def config(self, name: str, value: str | int | None = None) -> str | None:
        """CONFIG GET of `name`; with a `value` CONFIG SET. Only servers that redisq started can be configured."""
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
        """The server's log so far. A container's last lines arrive late. Only for servers that redisq started."""
        return self._own("asked for its log").log()

    def kill(self) -> None:
        """Kill the server with SIGKILL; returns when it is dead. Writes that are not on disk are lost."""
        self._own("killed").order("kill")

    def pause(self) -> None:
        """Pause the server with SIGSTOP: connections stay open without answers, as on a stalled machine or network."""
        self._own("paused").order("pause")
        self.paused = True

    def resume(self) -> None:
        """Resume the server after `pause`, with SIGCONT."""
        self._own("resumed").order("resume")
        self.paused = False

    def restart(self) -> None:
        """Shut the server down (if it runs) and start it again at the same URL; returns when it answers PING.

        The data survives only as far as the persistence saves it: with "none" nothing survives.
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
        """Resume or restart the server if a test has left it paused or dead."""
        if self.paused:
            self.resume()
        if self.supervisor and not self.supervisor.running():
            self.restart()

    def stop(self) -> None:
        """Release the lease. A server without holders ends within milliseconds. Repeated calls do nothing."""
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
                f"The server at {without_secrets(self.url)} was not started by redisq: it cannot be {what}.\n"
                "What to do: let redisq start a server (--redisq-server auto, docker, process or embedded)."
            )
        return self.supervisor

    def _ask(self, *words: str | int) -> Any:
        with self._explained():
            return cast(Any, self._control).execute_command(*words)

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.url)
