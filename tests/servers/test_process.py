"""Server processes of this machine: how they start, what they keep, and what is said when they do not start."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.options import Persistence, Settings
from pytest_redisq.servers import start
from tests.support import eventually, in_time, local

#: How soon after its cause an error must come, in seconds.
SOON_SECONDS = 1.5


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("process", "embedded")]
)
@pytest.mark.parametrize("ending", ["restart", "kill"])
def test_an_append_only_file_keeps_what_was_acknowledged(kind: str, ending: str) -> None:
    server = start(Settings(server=kind, persistence="aof"))
    with server.client() as client:
        client.rpush("jobs", *range(1000))
        if ending == "kill":
            server.kill()
        server.restart()
        assert client.llen("jobs") == 1000
    server.stop()


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("process", "embedded")]
)
def test_a_snapshot_file_keeps_all_at_a_restart_and_what_was_saved_at_a_kill(kind: str) -> None:
    server = start(Settings(server=kind, persistence="rdb"))
    with server.client() as client:
        client.set("before", 1)
        server.restart()
        client.set("after", 1)
        server.kill()
        server.restart()
        assert client.keys() == [b"before"]
    server.stop()


def test_nothing_is_written_unless_asked() -> None:
    server = start(local())
    assert (server.config("save"), server.config("appendonly")) == ("", "no")
    server.stop()


def test_server_arguments_reach_the_server() -> None:
    words = ("--maxmemory", "10mb", "--databases", "3", "--requirepass", 'it"s @ secret')
    server = start(local(server_args=words))
    assert server.config("maxmemory") == str(10 * 1024 * 1024)
    assert server.config("databases") == "3"
    assert server.config("requirepass") == 'it"s @ secret'
    server.stop()


@pytest.mark.process
def test_a_binary_is_taken_by_path(folder: Path) -> None:
    (folder / "redis-server").symlink_to(shutil.which("redis-server") or shutil.which("valkey-server") or "")
    server = start(Settings(server="process", binary=str(folder / "redis-server")))
    assert server.detail == str(folder / "redis-server")
    server.stop()


def test_a_port_of_the_users_choice_is_taken(unused: int) -> None:
    server = start(local(server_args=("--port", str(unused))))
    assert f":{unused}/" in server.url
    server.stop()


def test_the_password_is_on_no_command_line() -> None:
    server = start(local())
    password = server.config("requirepass")
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if password.encode() in line]
    server.stop()


@pytest.mark.parametrize("persistence", ["none", "aof", "rdb"])
def test_its_files_are_private_and_gone_at_the_end(persistence: Persistence) -> None:
    server = start(local(persistence=persistence))
    assert server.supervisor
    directory = server.supervisor.directory
    assert directory.stat().st_mode & 0o077 == 0
    with server.client() as client:
        client.set("key", "value")
    server.stop()
    eventually(lambda: not directory.exists())


def test_a_bad_setting(refusal: Callable[[Settings], str], snapshot: SnapshotAssertion) -> None:
    assert refusal(local(server_args=("--maxmemori", "10mb"))) == snapshot


def test_a_dying_server_is_reported_with_its_own_words() -> None:
    with pytest.raises(Exception, match=r"(?s)ended with status 1.*Bad directive or wrong number of arguments"):
        start(local(server_args=("--maxmemori", "10mb")))


def test_a_taken_port(refusal: Callable[[Settings], str], snapshot: SnapshotAssertion) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = ("--port", str(other.getsockname()[1]))
        assert in_time(SOON_SECONDS, lambda: refusal(local(server_args=words))) == snapshot


def test_a_port_that_another_redis_has(refusal: Callable[[Settings], str], snapshot: SnapshotAssertion) -> None:
    """Its PING would be answered, by the wrong server: the password tells them apart."""
    other = start(local())
    port = other.url.rpartition(":")[2].removesuffix("/0")
    assert refusal(local(server_args=("--port", port))) == snapshot
    other.stop()


def test_a_missing_binary(refusal: Callable[[Settings], str], snapshot: SnapshotAssertion) -> None:
    assert refusal(Settings(server="process", binary="/nonexistent/redis-server")) == snapshot


def test_nothing_on_path(
    refusal: Callable[[Settings], str], snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert refusal(Settings(server="process")) == snapshot


@pytest.fixture
def fake(folder: Path) -> Callable[[str], str]:
    """A program that is no server, by its shell script."""

    def make(script: str) -> str:
        path = folder / "fake-server"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        return str(path)

    return make


def test_a_binary_that_is_no_server(
    refusal: Callable[[Settings], str], snapshot: SnapshotAssertion, fake: Callable[[str], str]
) -> None:
    settings = Settings(server="process", binary=fake("echo what is this; exit 3"))
    assert in_time(SOON_SECONDS, lambda: refusal(settings)) == snapshot


def test_a_binary_that_never_answers(
    refusal: Callable[[Settings], str], snapshot: SnapshotAssertion, fake: Callable[[str], str]
) -> None:
    never = Settings(server="process", binary=fake("exec sleep 60"), startup_seconds=0.3)
    assert refusal(never) == snapshot


def test_a_start_that_fails_leaves_nothing(refusal: Callable[[Settings], str], folder: Path) -> None:
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        refusal(local(server_args=("--maxmemori", "1")))
    eventually(lambda: not list(folder.iterdir()))


def test_many_servers_at_once_get_a_port_each() -> None:
    servers = [start(local()) for _ in range(5)]
    assert len({server.url.rpartition(":")[2] for server in servers}) == 5
    for server in servers:
        with server.client() as client:
            assert client.ping()
        server.stop()


def test_a_full_server_says_so_to_the_test() -> None:
    server = start(local(server_args=("--maxmemory", "1mb")))
    with server.client() as client, pytest.raises(redis.OutOfMemoryError):
        client.set("key", "value")
    server.stop()


@pytest.fixture
def unused() -> int:
    """A port on which no program listened a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as candidate:
        return int(candidate.getsockname()[1])
