"""Finds out why the server closed a connection. redis-py only says "Connection closed by server.".

Law: a cause is named only on evidence from the server: a counter that rose, a log line, a run id that changed. A
setting that could be the cause is called *possible*. Without evidence the cause is *unknown*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_redisq.errors import ServerError
from pytest_redisq.servers.supervisor import wait_until

if TYPE_CHECKING:
    from pytest_redisq.servers.server import Server


class Cause(StrEnum):
    """Why a connection was closed."""

    OUTPUT_BUFFER_LIMIT = "output buffer limit"
    CLIENT_EVICTION = "client eviction"
    SERVER_GONE = "server gone"
    IDLE_TIMEOUT = "idle timeout (possible)"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A server's counters, settings and log at one moment.

    `buffer_disconnections` is None if the server does not count them (before Redis 7.4). Then its log is read.
    """

    run_id: str
    evicted_clients: int
    buffer_disconnections: int | None
    settings: Mapping[str, str]
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A cause, the server's evidence for it, and what to do."""

    cause: Cause
    evidence: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        return f"{self.cause}: {'; '.join(self.evidence)}. {self.advice}"


#: Seconds by which a container's log may be late.
LOG_SECONDS = 2.0

_SETTINGS = ("client-output-buffer-limit", "maxmemory-clients", "timeout")


def observe(server: Server) -> Facts | None:
    """The facts now; None if the server does not answer."""
    try:
        info = server.info()
    except ServerError:
        return None
    counted = info.get("client_output_buffer_limit_disconnections")
    return Facts(
        run_id=str(info["run_id"]),
        evicted_clients=int(info.get("evicted_clients", 0)),
        buffer_disconnections=None if counted is None else int(counted),
        settings={name: server.config(name) for name in _SETTINGS},
        log=server.log(),
    )


def why_closed(server: Server, before: Facts) -> Diagnosis:
    """Why the server closed a connection that was open at `before`.

    `before`: the facts from then. A container's log arrives late, so this may wait for it for `LOG_SECONDS`.
    """
    diagnosis = diagnose(before, observe(server))

    def told() -> bool:
        nonlocal diagnosis
        diagnosis = diagnose(before, observe(server))
        return diagnosis.cause is not Cause.UNKNOWN

    if diagnosis.cause is Cause.UNKNOWN and before.buffer_disconnections is None:
        wait_until(told, LOG_SECONDS)
    return diagnosis


def diagnose(before: Facts, after: Facts | None) -> Diagnosis:
    """Why a connection that was open at `before` was closed. `after`: the facts later; None: the server is silent."""
    if after is None or after.run_id != before.run_id:
        return _gone(after)
    known = set(before.log.splitlines())
    news = [line for line in after.log.splitlines() if line not in known]
    overflow = [line for line in news if "overcoming of output buffer limits" in line]
    if overflow or (after.buffer_disconnections or 0) > (before.buffer_disconnections or 0):
        return _overflow(before, after, overflow)
    if after.evicted_clients > before.evicted_clients:
        return _evicted(before, after)
    if after.settings["timeout"] not in ("0", ""):
        return Diagnosis(
            cause=Cause.IDLE_TIMEOUT,
            evidence=(f"CONFIG timeout is {after.settings['timeout']} s, and no other cause left a trace",),
            advice="The server closes a connection that is idle for longer: read faster, in chunks, or raise timeout.",
        )
    return Diagnosis(
        cause=Cause.UNKNOWN,
        evidence=("the server kept running, evicted no client and logged no overflow",),
        advice="Look between client and server: a proxy or firewall that drops connections, or CLIENT KILL.",
    )


def _gone(after: Facts | None) -> Diagnosis:
    what = "the server does not answer" if after is None else f"the server was restarted (run id now {after.run_id})"
    return Diagnosis(
        cause=Cause.SERVER_GONE,
        evidence=(what,),
        advice="Read the server's log and the kernel's (out of memory?); a command in flight may or may not have run.",
    )


def _overflow(before: Facts, after: Facts, lines: list[str]) -> Diagnosis:
    limit = " ".join(after.settings["client-output-buffer-limit"].split()[:4])
    evidence = [f"CONFIG client-output-buffer-limit is {limit}"]
    if after.buffer_disconnections is not None:
        rose = f"{before.buffer_disconnections} to {after.buffer_disconnections}"
        evidence.append(f"INFO client_output_buffer_limit_disconnections rose from {rose}")
    evidence += [f"log: …{line[line.find('scheduled to be closed') :].rstrip('.')}" for line in lines[-1:]]
    return Diagnosis(
        cause=Cause.OUTPUT_BUFFER_LIMIT,
        evidence=tuple(evidence),
        advice="The reply was larger than the server may buffer for a client: read in chunks, or raise the limit.",
    )


def _evicted(before: Facts, after: Facts) -> Diagnosis:
    return Diagnosis(
        cause=Cause.CLIENT_EVICTION,
        evidence=(
            f"CONFIG maxmemory-clients is {after.settings['maxmemory-clients']}",
            f"INFO evicted_clients rose from {before.evicted_clients} to {after.evicted_clients}",
        ),
        advice="All clients' buffers together exceeded that limit: read in chunks, or raise maxmemory-clients.",
    )
