"""Finds the Docker daemon, and asks over its socket whether it answers and which images it has.

No client library is used: importing one takes a fifth of a second, and `auto` asks these questions in every run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from pytest_redisq.errors import ServerError
from pytest_redisq.servers.container_supervisor import ask

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"

#: Seconds that a daemon may take to answer. It needs two milliseconds.
PROBE_SECONDS = 1.0

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REMOTE = ("tcp", "ssh", "http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A daemon's address, `unix://PATH` or `tcp://HOST:PORT`, and the setting that it comes from."""

    address: str
    origin: str

    def __str__(self) -> str:
        return f"{self.address} ({self.origin})"


def find_daemon(environ: Mapping[str, str], home: Path) -> Daemon:
    """The daemon that testcontainers and the docker command use.

    It is the first of: `tc.host` in `~/.testcontainers.properties`; DOCKER_HOST; the context (DOCKER_CONTEXT, or the
    current one in Docker's `config.json`); the default socket. Raises ServerError if a setting cannot be read, or the
    daemon cannot be used.

    * `environ`: the environment variables.
    * `home`: the user's home folder.
    """
    if host := _testcontainers_host(home):
        return _usable(Daemon(address=host, origin="tc.host in ~/.testcontainers.properties"))
    if address := environ.get("DOCKER_HOST"):
        return _usable(Daemon(address=address, origin="DOCKER_HOST"))
    folder = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    context = environ.get("DOCKER_CONTEXT") or str(_read(folder / "config.json").get("currentContext", "default"))
    if context == "default":
        return Daemon(address=DEFAULT_ADDRESS, origin="default")
    return _usable(Daemon(address=_context_host(folder, context), origin=f"docker context {context!r}"))


def _testcontainers_host(home: Path) -> str:
    try:
        lines = (home / ".testcontainers.properties").read_text().splitlines()
    except OSError:
        return ""
    settings = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    return settings.get("tc.host", "")


def _context_host(folder: Path, context: str) -> str:
    meta = folder / "contexts" / "meta" / hashlib.sha256(context.encode()).hexdigest() / "meta.json"
    host = _read(meta).get("Endpoints", {}).get("docker", {}).get("Host")
    if not host:
        raise ServerError(
            f"The docker context {context!r} is not known here ({meta} has no host).\n"
            "What to do: choose another with `docker context use`, or unset DOCKER_CONTEXT."
        )
    return str(host)


def _read(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    try:
        content = json.loads(path.read_text())
    except OSError:
        return {}
    except ValueError as error:
        raise ServerError(f"{path} is not JSON ({error}).\nWhat to do: repair it, or set DOCKER_HOST.") from error
    return content if isinstance(content, dict) else {}


def _usable(daemon: Daemon) -> Daemon:
    """Returns the daemon. Raises ServerError if the ports of its containers cannot be reached on loopback."""
    try:
        parts = urlsplit(daemon.address)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if daemon.address.startswith("unix:///") or (scheme == "tcp" and host in _LOOPBACK and port):
        return daemon
    if scheme in _REMOTE and host and host not in _LOOPBACK:
        raise ServerError(
            f"The Docker daemon at {daemon} is on another machine, and servers are published on loopback only.\n"
            "What to do: set DOCKER_HOST to a daemon on this machine, or start a Redis there and give its URL "
            "with --redisq-server."
        )
    raise ServerError(
        f"{daemon.address!r} ({daemon.origin}) is not an address of a Docker daemon that can be used.\n"
        f"What to do: write it as {DEFAULT_ADDRESS} or tcp://127.0.0.1:2375, or unset it for the default."
    )


def has_image(daemon: Daemon, image: str) -> bool:
    """Whether the daemon has the image, so that it need not be fetched. Raises ServerError if it does not answer."""
    status, answer = _ask(daemon, f"/images/{quote(image, safe='/:@')}/json")
    if status not in (200, 404):
        raise ServerError(
            f"The Docker daemon at {daemon} cannot inspect the image {image}: {words(answer)}.\n"
            "What to do: correct --redisq-image, or read the daemon's log."
        )
    return status == 200


def server_images(daemon: Daemon) -> list[str]:
    """The tags of the daemon's images that look like Redis or Valkey, for the advice in an error."""
    _, answer = _ask(daemon, "/images/json")
    tags = [tag for image in json.loads(answer) for tag in image["RepoTags"] or ()]
    return sorted(tag for tag in tags if re.search("redis|valkey", tag))


def words(answer: bytes) -> str:
    """The daemon's message in the body of an error."""
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace").strip()


def _ask(daemon: Daemon, path: str) -> tuple[int, bytes]:
    try:
        status, _, answer = ask(daemon.address, "GET", path, seconds=PROBE_SECONDS)
        return status, answer
    except OSError as error:
        raise ServerError(f"{_silence(error, daemon)}.\nWhat to do: {_cure(error)}") from None


def _silence(error: OSError, daemon: Daemon) -> str:
    if isinstance(error, PermissionError):
        return f"Permission denied by the Docker daemon's socket at {daemon}"
    if isinstance(error, TimeoutError):
        return f"The Docker daemon at {daemon} did not answer within {PROBE_SECONDS:g} s"
    why = error.strerror.lower() if error.strerror else str(error)
    return f"No Docker daemon answers at {daemon}: {why}"


def _cure(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "add your user to the group that owns the socket (`usermod -aG docker $USER`, then log in again)."
    return "start Docker, set DOCKER_HOST to a daemon, or choose --redisq-server process or embedded."
