"""The doctor reports the available servers and the risks of this environment, and leaves no process running."""

from __future__ import annotations

import json

import pytest
import redis
from click.testing import CliRunner

from pytest_redisq.cli import main
from pytest_redisq.doctor import CAPABILITIES, examine, own_server_risks, server_risks
from pytest_redisq.options import Settings
from pytest_redisq.servers import start
from tests.support import local, local_kind


def test_a_server_that_is_there_is_described() -> None:
    (finding,) = [finding for finding in examine(Settings(), {}).servers if finding.kind == local_kind()]
    assert finding.server.startswith(("redis ", "valkey "))
    assert set(finding.capabilities) == set(CAPABILITIES)
    assert finding.capabilities["CLIENT UNBLOCK"]


def test_what_is_not_there_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    servers = {finding.kind: finding for finding in examine(Settings(), {}).servers}
    assert not servers["process"].server
    assert "PATH" in servers["process"].why_not
    assert not servers["docker"].server
    assert "unix:///nonexistent/docker.sock" in servers["docker"].why_not


def test_a_redis_py_that_retries_is_a_risk() -> None:
    """The installed redis-py is asked, not its version."""
    connection = redis.Redis().connection_pool.make_connection()
    risks = [risk.where for risk in examine(Settings(), {}).risks]
    timeout, retries = connection.socket_timeout, vars(connection.retry)["_retries"]
    assert any("socket_timeout" in where for where in risks) is (timeout is not None)
    assert any("retries a failed command" in where for where in risks) is (retries > 0)


def test_a_mistyped_variable_is_a_risk() -> None:
    risks = [risk.what for risk in examine(Settings(), {"REDISQ_SEVER": "docker"}).risks]
    assert "REDISQ_SEVER is not a variable of pytest-redisq. Did you mean 'REDISQ_SERVER'?" in risks


#: As Redis has them from the start.
STOCK = {
    "appendonly": "yes",
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    "maxmemory": "0",
    "maxmemory-clients": "0",
    "maxmemory-policy": "allkeys-lru",
    "save": "3600 1",
    "timeout": "0",
}


@pytest.mark.parametrize(
    ("settings", "risk"),
    [
        ({}, ""),
        (dict.fromkeys(STOCK, ""), ""),
        ({"maxmemory": "10485760"}, "maxmemory-policy=allkeys-lru"),
        ({"maxmemory": "10485760", "maxmemory-policy": "noeviction"}, ""),
        ({"appendonly": "no"}, "loses all writes since its last snapshot (save 3600 1)"),
        ({"appendonly": "no", "save": ""}, "loses all data"),
        ({"client-output-buffer-limit": "normal 1048576 0 0 slave 0 0 0"}, "limit normal 1048576 0 0"),
        ({"maxmemory-clients": "1000000"}, "maxmemory-clients=1000000"),
        ({"timeout": "300"}, "idle for 300 s"),
    ],
)
def test_a_server_that_would_lose_messages_is_a_risk(settings: dict[str, str], risk: str) -> None:
    found = [f"{each.where}: {each.what}" for each in server_risks(STOCK | settings)]
    assert len(found) == bool(risk)
    assert risk in "".join(found)


def test_somebodys_own_server_is_looked_through() -> None:
    """As far as its user may read its settings; one that cannot be reached has none."""
    server = start(local(server_args=("--timeout", "300")))
    with server.client() as client:
        client.acl_setuser("ann", enabled=True, passwords=["+pass"], keys=["*"], commands=["+@all", "-config"])
    found = examine(Settings(server=server.url, origin={"server": "--server"}), {})
    hidden = own_server_risks(Settings(server=f"redis://ann:pass@{server.url.rpartition('@')[2]}"))
    server.stop()
    assert "your server: timeout=300" in [risk.where for risk in found.risks]
    assert found.servers[0].kind == "url"
    assert hidden == own_server_risks(Settings(server="redis://localhost:1/0")) == ()


def test_the_findings_come_as_json() -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    findings = json.loads(result.output)
    assert result.exit_code == 0
    assert {finding["kind"] for finding in findings["servers"]} == {"docker", "process", "embedded"}
    assert findings["packages"]["redis"] == redis.__version__


def test_no_server_at_all_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert result.output.count("✗") == 3
