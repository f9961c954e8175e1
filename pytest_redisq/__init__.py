"""Prove that a Redis-backed queue loses nothing, before its users find out.

The names below are imported when they are first asked for: this package is loaded by every pytest run, and most of
those do without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_redisq.check import Contract, Verdict
    from pytest_redisq.errors import (
        DeliveryError,
        RedisqError,
        RedisqUnjudgedWarning,
        ScheduleError,
        ServerError,
        TrafficError,
    )
    from pytest_redisq.explore import Exploration, World
    from pytest_redisq.facade import Redisq
    from pytest_redisq.faults import Fault
    from pytest_redisq.history import History
    from pytest_redisq.keywords import StartServer
    from pytest_redisq.model import Kind, Message, Op, Outcome
    from pytest_redisq.options import Settings
    from pytest_redisq.properties.conformance_kit import conformance as conformance
    from pytest_redisq.queues import (
        BlockingList,
        Delivery,
        ReliableList,
        Stopped,
        Stream,
        StreamGroup,
        drain,
        drain_async,
        drain_to_file,
    )
    from pytest_redisq.runner import Bursts, Command, Rate, Run, run
    from pytest_redisq.servers import Server, start

# Without `conformance`, which needs Hypothesis: `import *` does not.
__all__ = [
    "BlockingList",
    "Bursts",
    "Command",
    "Contract",
    "Delivery",
    "DeliveryError",
    "Exploration",
    "Fault",
    "History",
    "Kind",
    "Message",
    "Op",
    "Outcome",
    "Rate",
    "Redisq",
    "RedisqError",
    "RedisqUnjudgedWarning",
    "ReliableList",
    "Run",
    "ScheduleError",
    "Server",
    "ServerError",
    "Settings",
    "StartServer",
    "Stopped",
    "Stream",
    "StreamGroup",
    "TrafficError",
    "Verdict",
    "World",
    "drain",
    "drain_async",
    "drain_to_file",
    "run",
    "start",
]

_HOMES = {
    "check": ("Contract", "Verdict"),
    "errors": (
        *("DeliveryError", "RedisqError", "RedisqUnjudgedWarning", "ScheduleError", "ServerError", "TrafficError"),
    ),
    "explore": ("Exploration", "World"),
    "facade": ("Redisq",),
    "faults": ("Fault",),
    "history": ("History",),
    "keywords": ("StartServer",),
    "model": ("Kind", "Message", "Op", "Outcome"),
    "options": ("Settings",),
    "properties": ("conformance",),
    "queues": (
        *("BlockingList", "Delivery", "ReliableList", "Stopped", "Stream", "StreamGroup"),
        *("drain", "drain_async", "drain_to_file"),
    ),
    "servers": ("Server", "start"),
    "runner": ("Bursts", "Command", "Rate", "Run", "run"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
