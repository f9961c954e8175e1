"""Explains why the server closed connections of a load run, as far as the server says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_redisq.load.locust_process import LoadReport
from pytest_redisq.servers import Server
from pytest_redisq.servers.diagnosis import Facts, observe, why_closed

#: What redis-py says of a connection that the server closed.
_CLOSED = "Connection closed by server"


def facts_before(server: Server) -> Facts | None:
    """What the server says before a run; None for the user's own server, whose log cannot be read."""
    return observe(server) if server.kind != "url" else None


def with_reason(report: LoadReport, server: Server, before: Facts | None) -> LoadReport:
    """Return the report with the reason why the server closed connections, if it did.

    `before`: what `facts_before` returned.
    """
    errors: list[Mapping[str, Any]] = report.told.get("verdict", {}).get("errors", [])
    if before is None or not any(_CLOSED in str(error) for error in errors):
        return report
    line = f"the server closed connections: {why_closed(server, before)}"
    told = {**report.told, "notes": [*report.told.get("notes", []), line]}
    return replace(report, told=told, output=f"{report.output}{line}\n")
