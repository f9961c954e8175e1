"""Waits for the first answer of a server that redisq started: PING every few milliseconds until it answers or ends."""

from __future__ import annotations

import time

from pytest_redisq.errors import ServerError
from pytest_redisq.servers.server_connection import ServerClosedError, ServerConnection
from pytest_redisq.servers.supervisor import POLL_SECONDS, Supervisor

#: Seconds that one PING may wait for its answer; then a new connection is tried.
_PING_SECONDS = 0.25


def boot(supervisor: Supervisor, host: str, port: int, password: str, *, seconds: float, name: str) -> None:
    """Have the supervisor start the server, and wait until it has answered PING.

    * `host`, `port`: where the server will listen.
    * `password`: a server that does not accept it is a different one. The started server then exits, because the port
      is in use.
    * `seconds`: the longest time until its answer.
    * `name`: what is started, for messages: "/usr/bin/redis-server".

    Raises ServerDiedError as soon as the server has died, and ServerError after `seconds`.
    """
    deaths, before = len(supervisor.exits()), len(supervisor.log())
    supervisor.order("start", seconds=seconds)
    deadline = time.monotonic() + seconds
    while not _answers(host, port, password):
        exits = supervisor.exits()
        if len(exits) > deaths:
            what = f"The server died at boot: {name} ended with status {exits[-1]}."
            raise ServerDiedError(f"{what}\n{supervisor.last_words()}", supervisor.log()[before:])
        if time.monotonic() > deadline:
            raise ServerError(
                f"The server ({name}) did not answer PING on {host}:{port} within {seconds:g} s.\n"
                f"{supervisor.last_words()}\n"
                "What to do: allow more time with --redisq-startup-seconds, or see its log lines above."
            )
        time.sleep(POLL_SECONDS)


class ServerDiedError(ServerError):
    """The server ended before its first answer. `log`: its log."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


def _answers(host: str, port: int, password: str) -> bool:
    """Whether a server answers at this address and accepts the password."""
    try:
        options = {"host": host, "port": port, "password": password}
        with ServerConnection(options, seconds=_PING_SECONDS) as connection:
            return connection.ask("PING") == b"PONG"
    except (OSError, ValueError, ServerError, ServerClosedError):
        return False
