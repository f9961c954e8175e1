"""The cause of a closed connection is named on the server's own word, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from pytest_redisq.servers import Server
from pytest_redisq.servers.diagnosis import Cause, Diagnosis, Facts, diagnose, observe, why_closed

QUIET = Facts(
    run_id="aaaa",
    evicted_clients=3,
    buffer_disconnections=1,
    settings={"client-output-buffer-limit": "normal 1mb 0 0", "maxmemory-clients": "2mb", "timeout": "0"},
    log="1:M Ready to accept connections\n",
)
OVERFLOW = "1:M Client id=5 omem=1066208 scheduled to be closed ASAP for overcoming of output buffer limits.\n"


@pytest.mark.parametrize(
    ("after", "cause"),
    [
        (None, Cause.SERVER_GONE),
        (replace(QUIET, run_id="bbbb"), Cause.SERVER_GONE),
        (replace(QUIET, log=QUIET.log + OVERFLOW), Cause.OUTPUT_BUFFER_LIMIT),
        (replace(QUIET, buffer_disconnections=2), Cause.OUTPUT_BUFFER_LIMIT),
        (replace(QUIET, evicted_clients=4), Cause.CLIENT_EVICTION),
        (replace(QUIET, settings={**QUIET.settings, "timeout": "1"}), Cause.IDLE_TIMEOUT),
        (QUIET, Cause.UNKNOWN),
    ],
)
def test_a_cause_is_what_changed(after: Facts | None, cause: Cause) -> None:
    assert diagnose(QUIET, after).cause is cause


def test_an_overflow_of_long_ago_is_no_cause() -> None:
    before = replace(QUIET, log=OVERFLOW)
    assert diagnose(before, before).cause is Cause.UNKNOWN


def test_a_server_that_does_not_count_overflows_is_read_by_its_log() -> None:
    before = replace(QUIET, buffer_disconnections=None)
    diagnosis = diagnose(before, replace(before, log=before.log + OVERFLOW))
    assert diagnosis.cause is Cause.OUTPUT_BUFFER_LIMIT
    assert "scheduled to be closed ASAP for overcoming of output buffer limits" in str(diagnosis)


def _read_20_mb(server: Server) -> Diagnosis:
    """The diagnosis of the closed connection of a client that read so much at once."""
    with server.client() as client:
        client.ping()
        before = observe(server)
        assert before
        with pytest.raises(redis.ConnectionError):
            client.lrange("big", 0, -1)
    return why_closed(server, before)


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("client-output-buffer-limit", "normal 1mb 0 0", Cause.OUTPUT_BUFFER_LIMIT),
        ("maxmemory-clients", "2mb", Cause.CLIENT_EVICTION),
    ],
)
def test_real_servers_tell_why_they_closed(server: Server, name: str, value: str, cause: Cause) -> None:
    with server.client() as client:
        client.rpush("big", *[b"x" * 1_000] * 20_000)
    server.config(name, value)
    assert _read_20_mb(server).cause is cause


def test_a_killed_server_is_gone(server: Server) -> None:
    before = observe(server)
    assert before
    server.kill()
    assert diagnose(before, observe(server)).cause is Cause.SERVER_GONE
    server.restart()
    assert diagnose(before, observe(server)).cause is Cause.SERVER_GONE
