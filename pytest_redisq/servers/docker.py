"""A server in a container of a Docker daemon on this machine.

The container's first process is the supervisor's script, so that the server can be killed and restarted inside it. The
image's own entry script is not run. On this machine the container supervisor (`container_supervisor.py`) creates the
container, connects the lease to the script, and deletes the container when the lease ends. The reaper of
testcontainers, Ryuk, is not needed.

testcontainers takes a third of a second to import, as long as a container takes to start. So it is used only to fetch
an image, with the registries' credentials (`docker_image.py`). Its settings select the daemon.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.secret import Secret, Url
from pytest_redisq.servers import container_supervisor
from pytest_redisq.servers.backend import SOCKET_FOLDER, Launched
from pytest_redisq.servers.boot import ServerDiedError, boot
from pytest_redisq.servers.configuration import configuration, given, on_command_line, shown
from pytest_redisq.servers.docker_daemon import Daemon, find_daemon, has_image, words
from pytest_redisq.servers.supervisor import SCRIPT, Supervisor

#: The image that runs by default.
DEFAULT_IMAGE = "valkey/valkey:9.1"

#: The label of every container that redisq starts. Its value is the run's folder.
LABEL = "org.pytest-redisq.run"

PORT = 6379

_FOLDER = "/tmp/redisq"
#: The folder of the unix socket in the container, and the socket's name.
_SHARED, _SOCKET = "/tmp/redisq-socket", "redis.sock"

#: Images with modules load them in their entry script, from one of these folders. This script does the same. Redis
#: Gears needs an argument with the path of its interpreter. The other lib*.so files there are not modules.
_PRELUDE = r"""
umask 077
mkdir -p "$1/data"
printf '%s' "$REDISQ_CONFIGURATION" >"$1/redis.conf"
unset REDISQ_CONFIGURATION
keeping=$1; shift
for module in /usr/local/lib/redis/modules/*.so /usr/lib/redis/modules/*.so /usr/lib/valkey/*.so \
  /usr/lib/valkey/modules/*.so /opt/redis-stack/lib/re*.so
do
  [ -e "$module" ] || continue
  case " $* " in *" $module "*) continue ;; esac
  set -- "$@" --loadmodule "$module"
  case $module in */redisgears.so) set -- "$@" v8-plugin-path "${module%/*}/libredisgears_v8_plugin.so" ;; esac
done
no_server() { echo "redisq: neither valkey-server nor redis-server is on PATH ($PATH)"; return 127; }
server=no_server
for name in redis-server valkey-server; do
  if command -v "$name" >/dev/null; then server=$name; fi
done
set -- "$keeping" "$server" "$keeping/redis.conf" "$@"
"""


_DETACHED = 'exec 3<&0; "$@" <&3 3<&- &'


def missing(settings: Settings) -> str | None:
    """The reason why no container can start without pulling an image first; None if one can."""
    image = settings.image or DEFAULT_IMAGE
    try:
        there = has_image(_daemon(), image)
    except ServerError as error:
        first = str(error).partition("\n")[0].rstrip(".")
        return first[0].lower() + first[1:]
    return None if there else f"the image {image} is not on this machine"


def can_fetch(settings: Settings) -> bool:
    """Whether a daemon answers that could pull the image."""
    try:
        has_image(_daemon(), settings.image or DEFAULT_IMAGE)
    except ServerError:
        return False
    return True


def launch(settings: Settings, supervisor: Supervisor) -> Launched:
    """Start a container with the image of the settings, fetching it if necessary, and wait until the server answers.

    Raises ServerError.
    """
    image = settings.image or DEFAULT_IMAGE
    own = given(settings.server_args)
    if own.get("port", str(PORT)) != str(PORT):
        raise ServerError(
            f"In a container the server listens on {PORT}, and Docker picks the port on this machine.\n"
            "What to do: leave 'port' out of --redisq-server-arg, or choose --redisq-server process."
        )
    daemon = _daemon()
    _supervise(supervisor, daemon)
    if not has_image(daemon, image):
        # testcontainers takes a third of a second to import, so it is imported only to pull an image.
        from pytest_redisq.servers.docker_image import fetch

        fetch(daemon, image, settings.origin.get("image", "default"))
    password = Secret(own.get("requirepass", secrets.token_hex(16)))
    socket = supervisor.directory / SOCKET_FOLDER
    here = socket.is_dir() and daemon.address.startswith("unix:")
    host, port = _create(supervisor, settings, image, password, socket if here else None)
    _boot(supervisor, settings, image, host, port, password)
    auth = f":{quote(password, safe='')}@" if password else ""
    url = Url(f"redis://{auth}{host}:{port}/0")
    return Launched(url=url, detail=f"image {image}", socket=socket / _SOCKET if here else None)


def _daemon() -> Daemon:
    return find_daemon(os.environ, Path.home())


def _supervise(supervisor: Supervisor, daemon: Daemon) -> None:
    """Start the container supervisor on the lease. It is detached: it is no child that a process must wait for."""
    container = f"{supervisor.directory.name}-{secrets.token_hex(4)}"
    program = [
        sys.executable,
        "-I",
        "-S",
        container_supervisor.__file__,
        daemon.address,
        container,
        str(supervisor.directory),
    ]
    read_end = supervisor.establish()
    try:
        subprocess.run(
            ["/bin/sh", "-c", _DETACHED, "redisq-container-supervisor", *program],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            check=True,
        )
    finally:
        os.close(read_end)


def _create(
    supervisor: Supervisor, settings: Settings, image: str, password: str, socket: Path | None
) -> tuple[str, int]:
    """Have the container supervisor create and start the container; returns the published host and port."""
    file = supervisor.directory / "container.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(_description(settings, image, password, str(supervisor.directory), socket)))
    supervisor.order("create", seconds=settings.startup_seconds)
    head, _, body = (supervisor.directory / "answer").read_bytes().partition(b"\n")
    step, status = head.decode().split()
    if step != "inspect" or status != "200":
        raise _refusal(step, image, words(body))
    published = json.loads(body)["NetworkSettings"]["Ports"][f"{PORT}/tcp"][0]
    return published["HostIp"], int(published["HostPort"])


def _description(
    settings: Settings, image: str, password: str, run: str, socket: Path | None = None
) -> dict[str, object]:
    """The body of the create request.

    The container's stdin is open for one client, its port is published on loopback, and it is removed when it ends.
    `socket`: a folder that is shared with the container; default: none.
    """
    data = f"{_FOLDER}/data"
    conf = configuration(settings, bind="0.0.0.0", port=PORT, password=password, directory=data)
    if socket is not None:
        conf += f"unixsocket {_SHARED}/{_SOCKET}\nunixsocketperm 777\n"
    port = f"{PORT}/tcp"
    return {
        "Image": image,
        "Entrypoint": [
            "sh",
            "-c",
            _PRELUDE + SCRIPT,
            "redisq-supervisor",
            _FOLDER,
            *on_command_line(settings.server_args),
        ],
        "Cmd": [],
        "Env": [f"REDISQ_CONFIGURATION={conf}"],
        "Labels": {LABEL: run},
        "ExposedPorts": {port: {}},
        **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce"), True),
        "HostConfig": {
            "AutoRemove": True,
            "LogConfig": {"Type": "none"},
            "Binds": [] if socket is None else [f"{socket}:{_SHARED}"],
            "PortBindings": {port: [{"HostIp": "127.0.0.1", "HostPort": ""}]},
        },
    }


def _refusal(step: str, image: str, said: str) -> ServerError:
    if '"sh": executable file not found' in said:
        return ServerError(
            f"The image {image} has no shell (sh), which the supervisor of the server needs.\n"
            "What to do: choose another image of that server with --redisq-image (not a distroless one)."
        )
    return ServerError(
        f"The Docker daemon refused to {step} a container of the image {image}:\n  {said}\n"
        "What to do: follow the daemon's message, or choose --redisq-server process or embedded."
    )


def _boot(supervisor: Supervisor, settings: Settings, image: str, host: str, port: int, password: str) -> None:
    try:
        boot(supervisor, host, port, password, seconds=settings.startup_seconds, name=f"image {image}")
    except ServerDiedError as death:
        if "redisq: neither" in death.log:
            advice = f"choose an image of Redis or Valkey with --redisq-image ({image} is not one)."
        elif settings.server_args:
            advice = f"correct --redisq-server-arg (given: {shown(settings.server_args)})."
        else:
            advice = f"check whether the image works: docker run --rm {image}."
        raise ServerError(f"{death}\nWhat to do: {advice}") from None
