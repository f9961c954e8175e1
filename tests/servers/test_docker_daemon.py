"""Which daemon is meant, and what is said when it is of no use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.errors import ServerError
from pytest_redisq.options import Settings
from pytest_redisq.servers import docker
from pytest_redisq.servers.docker_daemon import DEFAULT_ADDRESS, Daemon, find_daemon, has_image, server_images
from tests.support import IMAGE

#: How soon `auto` must know, in seconds, whatever is the matter with a daemon.
SOON_SECONDS = 1.5


def context(home: Path, name: str, host: str) -> None:
    """The files of `docker context create` in the home folder."""
    meta = home / ".docker" / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))


def test_without_any_setting_it_is_the_default_socket(tmp_path: Path) -> None:
    assert find_daemon({}, tmp_path) == Daemon(address=DEFAULT_ADDRESS, origin="default")


def test_the_nearest_setting_wins(tmp_path: Path) -> None:
    """tc.host, DOCKER_HOST, DOCKER_CONTEXT, the current context: taken away one after the other."""
    context(tmp_path, "work", "unix:///work.sock")
    context(tmp_path, "desktop", "unix:///desktop.sock")
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"currentContext": "desktop"}))
    properties = tmp_path / ".testcontainers.properties"
    properties.write_text("# mine\nryuk.disabled=true\ntc.host = tcp://127.0.0.1:2375\n")
    environ = {"DOCKER_HOST": "unix:///host.sock", "DOCKER_CONTEXT": "work"}
    found = [find_daemon(environ, tmp_path).address]
    properties.unlink()
    found.append(find_daemon(environ, tmp_path).address)
    del environ["DOCKER_HOST"]
    found.append(find_daemon(environ, tmp_path).address)
    del environ["DOCKER_CONTEXT"]
    found.append(find_daemon(environ, tmp_path).address)
    assert found == ["tcp://127.0.0.1:2375", "unix:///host.sock", "unix:///work.sock", "unix:///desktop.sock"]


def test_docker_config_moves_the_contexts(tmp_path: Path) -> None:
    context(tmp_path, "desktop", "unix:///desktop.sock")
    environ = {"DOCKER_CONFIG": str(tmp_path / ".docker"), "DOCKER_CONTEXT": "desktop"}
    assert find_daemon(environ, Path("/nonexistent")).address == "unix:///desktop.sock"


@pytest.mark.parametrize(
    "address",
    ["/var/run/docker.sock", "unix://docker.sock", "tcp://127.0.0.1", "tcp://127.0.0.1:port", "npipe:////./pipe/x"],
)
def test_an_address_that_is_none(address: str, snapshot: SnapshotAssertion) -> None:
    with pytest.raises(ServerError) as error:
        find_daemon({"DOCKER_HOST": address}, Path("/nonexistent"))
    assert str(error.value) == snapshot


@pytest.mark.parametrize("address", ["tcp://10.0.0.5:2375", "ssh://me@build.example", "https://docker.example:2376"])
def test_a_daemon_on_another_machine(address: str, snapshot: SnapshotAssertion) -> None:
    """Its containers' ports are on the loopback of another machine, and cannot be reached from here."""
    with pytest.raises(ServerError) as error:
        find_daemon({"DOCKER_HOST": address}, Path("/nonexistent"))
    assert str(error.value) == snapshot


def test_an_unknown_context(snapshot: SnapshotAssertion) -> None:
    with pytest.raises(ServerError) as error:
        find_daemon({"DOCKER_CONTEXT": "mistyped"}, Path("/nonexistent"))
    assert str(error.value) == snapshot


def test_a_broken_config_file(tmp_path: Path) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text("{")
    with pytest.raises(ServerError, match=r"config.json is not JSON .*\nWhat to do: "):
        find_daemon({}, tmp_path)


@contextlib.contextmanager
def daemon(folder: Path, speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """A socket where something that is no daemon answers one connection; its address."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "d.sock"))
        listener.listen()

        def serve() -> None:
            link, _ = listener.accept()
            with link:
                speak(link)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"unix://{folder}/d.sock"
        thread.join()


def why(monkeypatch: pytest.MonkeyPatch, address: str, folder: Path) -> str:
    """Why there is no Docker at this address, as `auto` says it; fails if that takes too long."""
    monkeypatch.setenv("DOCKER_HOST", address)
    began = time.monotonic()
    reason = docker.missing(Settings())
    assert time.monotonic() - began < SOON_SECONDS
    return str(reason).replace(str(folder), "<folder>")


def test_no_socket(monkeypatch: pytest.MonkeyPatch, folder: Path, snapshot: SnapshotAssertion) -> None:
    assert why(monkeypatch, f"unix://{folder}/d.sock", folder) == snapshot


def test_a_socket_that_nobody_listens_on(
    monkeypatch: pytest.MonkeyPatch, folder: Path, snapshot: SnapshotAssertion
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "d.sock"))
    assert why(monkeypatch, f"unix://{folder}/d.sock", folder) == snapshot


def test_a_socket_that_may_not_be_used(
    monkeypatch: pytest.MonkeyPatch, folder: Path, snapshot: SnapshotAssertion
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "d.sock"))
        (folder / "d.sock").chmod(0)
        listener.listen()
        before = os.geteuid()
        # Root may use any socket, so a test run by root is nobody for a moment.
        if before == 0:
            folder.chmod(0o755)
            os.seteuid(65534)
        try:
            assert why(monkeypatch, f"unix://{folder}/d.sock", folder) == snapshot
        finally:
            os.seteuid(before)


def test_something_that_is_no_daemon(
    monkeypatch: pytest.MonkeyPatch, folder: Path, snapshot: SnapshotAssertion
) -> None:
    with daemon(folder, lambda link: link.recv(4096) and link.sendall(b"-ERR unknown command\r\n")) as address:
        assert why(monkeypatch, address, folder) == snapshot


def test_a_daemon_that_never_answers(
    monkeypatch: pytest.MonkeyPatch, folder: Path, snapshot: SnapshotAssertion
) -> None:
    with daemon(folder, lambda link: [*iter(lambda: link.recv(4096), b"")] and None) as address:
        assert why(monkeypatch, address, folder) == snapshot


def test_a_daemon_in_trouble(monkeypatch: pytest.MonkeyPatch, folder: Path, snapshot: SnapshotAssertion) -> None:
    answer = b'HTTP/1.0 500 Internal Server Error\r\n\r\n{"message":"no space left on device"}'
    with daemon(folder, lambda link: link.recv(4096) and link.sendall(answer)) as address:
        assert why(monkeypatch, address, folder) == snapshot


@pytest.mark.docker
def test_the_real_daemon_knows_its_images() -> None:
    real = find_daemon(os.environ, Path.home())
    assert has_image(real, IMAGE)
    assert not has_image(real, "redisq/there-is-none:1")
    assert IMAGE in server_images(real)


@pytest.mark.docker
def test_auto_does_not_fetch_an_image() -> None:
    reason = docker.missing(Settings(image="redisq/there-is-none:1"))
    assert reason == "the image redisq/there-is-none:1 is not on this machine"
