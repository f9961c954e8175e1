"""Real servers, whichever way they can be had: Docker, a local binary, an embedded one, or somebody's URL.

A name is loaded with redis-py when it is asked for, so that a server can boot while redis-py is being loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_redisq.servers.address import Address
    from pytest_redisq.servers.choose import start
    from pytest_redisq.servers.corner import Corner, Corners
    from pytest_redisq.servers.server import Server

__all__ = ["Address", "Corner", "Corners", "Server", "start"]

_HOMES = {"Address": "address", "Corner": "corner", "Corners": "corner", "Server": "server", "start": "choose"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
