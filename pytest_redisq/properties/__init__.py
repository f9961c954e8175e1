"""Property-based testing of queues, with Hypothesis (the extra `property`): strategies, a stateful model, and a kit of
properties that any queue can be held to.
"""

from __future__ import annotations

try:
    import hypothesis  # noqa: F401  asked for first, so that who lacks it is told what to do
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "pytest_redisq.properties needs Hypothesis: pip install 'pytest-redisq[property]'", name="hypothesis"
    ) from None

from pytest_redisq.properties.conformance_kit import check_conformance, conformance
from pytest_redisq.properties.machine import check_stateful
from pytest_redisq.properties.strategies import (
    Ack,
    Action,
    Burst,
    Crash,
    Get,
    GiveBack,
    Put,
    Restart,
    Trim,
    bodies,
    bursts,
    chunk_sizes,
    lengths,
    trims,
    workloads,
)

__all__ = [
    "Ack",
    "Action",
    "Burst",
    "Crash",
    "Get",
    "GiveBack",
    "Put",
    "Restart",
    "Trim",
    "bodies",
    "bursts",
    "check_conformance",
    "check_stateful",
    "chunk_sizes",
    "conformance",
    "lengths",
    "trims",
    "workloads",
]
