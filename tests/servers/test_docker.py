"""Servers in containers: how they are reached, what they keep, and what is said when they do not start."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
import redis
from docker import DockerClient
from docker.errors import APIError
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.options import Settings
from pytest_redisq.servers import Server, docker_image, start
from pytest_redisq.servers.docker import LABEL
from tests.support import IMAGE, eventually, in_time

Run = Callable[[Settings], Server]

pytestmark = pytest.mark.docker

#: How soon after its cause an error must come, in seconds; a container takes a third of one to start.
SOON_SECONDS = 2.5

#: A module that does nothing but be there, without the header that it would take to do more.
MODULE = """
int RedisModule_OnLoad(void *context, void **argv, int argc) {
    int (*get)(const char *, void *) = *(int (**)(const char *, void *))context;
    int (*name)(void *, const char *, int, int);
    get("RedisModule_SetModuleAttribs", &name);
    name(context, "redisqtest", 1, 1);
    return 0;
}
"""


def settings(image: str = IMAGE, **more: Any) -> Settings:
    return Settings(server="docker", image=image, origin={"image": "--redisq-image"}, **more)


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts servers that end with the test, however it ends."""
    with contextlib.ExitStack() as servers:

        def begin(settings: Settings) -> Server:
            server = start(settings)
            servers.callback(server.stop)
            return server

        yield begin


@pytest.fixture(scope="module")
def daemon() -> Iterator[DockerClient]:
    client = docker_py.from_env()
    yield client
    client.close()


@pytest.fixture
def image(daemon: DockerClient) -> Iterator[Callable[..., str]]:
    """Makes a variation of the image under test: files put into it, and changes as in a Dockerfile."""
    made: list[str] = []

    def make(files: dict[str, bytes] | None = None, changes: tuple[str, ...] = (), base: str = IMAGE) -> str:
        name = f"redisq-test/variation-{time.monotonic_ns()}"
        made.append(name)
        if not base:
            daemon.api.import_image_from_data(tar(files or {}), repository=name, tag="1")
            return f"{name}:1"
        container = daemon.containers.create(base)
        container.put_archive("/", tar(files or {}))
        container.commit(name, "1", changes=list(changes))
        container.remove()
        return f"{name}:1"

    yield make
    for name in made:
        eventually(lambda name=name: removed(daemon, f"{name}:1"))


def removed(daemon: DockerClient, image: str) -> bool:
    """Remove the image, unless its last container is still on its way out."""
    try:
        daemon.images.remove(image)
    except APIError:
        return False
    return True


def tar(files: dict[str, bytes]) -> bytes:
    """An archive of executable files; one whose content begins with `->` is a link."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.mode, info.size = 0o755, len(content)
            if content.startswith(b"->"):
                info.type, info.linkname, info.size = tarfile.SYMTYPE, content[2:].decode(), 0
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.mark.parametrize("ending", ["restart", "kill"])
def test_an_append_only_file_keeps_what_was_acknowledged(run: Run, ending: str) -> None:
    server = run(settings(persistence="aof"))
    with server.client() as client:
        client.rpush("jobs", *range(1000))
        if ending == "kill":
            server.kill()
        server.restart()
        assert client.llen("jobs") == 1000


def test_a_snapshot_file_keeps_all_at_a_restart_and_what_was_saved_at_a_kill(run: Run) -> None:
    server = run(settings(persistence="rdb"))
    with server.client() as client:
        client.set("before", 1)
        server.restart()
        client.set("after", 1)
        server.kill()
        server.restart()
        assert client.keys() == [b"before"]


def test_it_is_published_on_loopback_alone_and_carries_the_runs_label(run: Run, daemon: DockerClient) -> None:
    server = run(settings())
    assert server.supervisor
    [container] = daemon.containers.list(filters={"label": f"{LABEL}={server.supervisor.directory}"})
    [published] = container.ports["6379/tcp"]
    assert published["HostIp"] == "127.0.0.1"
    assert f"@127.0.0.1:{published['HostPort']}/0" in server.url


def test_nobody_gets_in_without_the_password(run: Run) -> None:
    server = run(settings())
    host, port = server.url.rpartition("@")[2].removesuffix("/0").split(":")
    with redis.Redis(host, int(port)) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_server_arguments_reach_the_server(run: Run) -> None:
    words = ("--maxmemory", "10mb", "--databases", "3", "--requirepass", 'it"s @ secret')
    server = run(settings(server_args=words))
    assert server.config("maxmemory") == str(10 * 1024 * 1024)
    assert server.config("databases") == "3"
    assert server.config("requirepass") == 'it"s @ secret'


def test_the_log_is_the_servers_own_and_goes_on_after_a_restart(run: Run) -> None:
    server = run(settings())
    server.restart()
    eventually(lambda: server.log().count("Ready to accept connections") == 2)


def test_a_servers_death_is_seen_at_once_and_its_container_can_start_another(run: Run) -> None:
    server = run(settings())
    server.kill()
    with server.client() as client, pytest.raises(redis.ConnectionError):
        client.ping()
    server.restart()
    with server.client() as client:
        assert client.ping()


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler for a module")
@pytest.mark.parametrize("place", ["usr/local/lib/redis/modules/test.so", "usr/lib/valkey/libtest.so"])
def test_an_images_modules_are_loaded_without_its_entry_script(
    place: str, image: Callable[..., str], run: Run, folder: Path
) -> None:
    (folder / "test.c").write_text(MODULE)
    subprocess.run(["cc", "-shared", "-fPIC", "-nostdlib", "-o", "test.so", "test.c"], cwd=folder, check=True)
    named = image({place: (folder / "test.so").read_bytes()}, ('ENTRYPOINT ["/none.sh"]',))
    server = run(settings(named))
    with server.client(decode_responses=True) as client:
        for _ in "before", "after":
            # Redis 8 has a module of its own.
            assert "redisqtest" in [module["name"] for module in client.module_list()]
            server.restart()


def test_a_bad_setting(refusal: Callable[[Settings], str], snapshot: SnapshotAssertion) -> None:
    said = in_time(SOON_SECONDS, lambda: refusal(settings(server_args=("--maxmemori", "10mb"))))
    assert said.replace(IMAGE, "<image>") == snapshot


def test_a_port_of_the_users_choice(refusal: Callable[[Settings], str], snapshot: SnapshotAssertion) -> None:
    assert refusal(settings(server_args=("--port", "7000"))) == snapshot


def test_an_image_without_a_server(
    refusal: Callable[[Settings], str], snapshot: SnapshotAssertion, image: Callable[..., str]
) -> None:
    """Such as `--redisq-image debian`."""
    named = image({"only/sh": b"->/bin/sh", "only/mkdir": b"->/bin/mkdir"}, ("ENV PATH=/only",))
    assert refusal(settings(named)).replace(named, "<image>") == snapshot


def test_an_image_without_a_shell(
    refusal: Callable[[Settings], str], snapshot: SnapshotAssertion, image: Callable[..., str]
) -> None:
    named = image({"usr/bin/redis-server": b"#!/none\n"}, base="")
    assert refusal(settings(named)).replace(named, "<image>") == snapshot


def test_an_image_name_that_is_none(refusal: Callable[[Settings], str], snapshot: SnapshotAssertion) -> None:
    assert refusal(settings("Redis:8")) == snapshot


def test_a_registry_that_does_not_have_the_image(
    refusal: Callable[[Settings], str], snapshot: SnapshotAssertion, registry: Callable[[bytes], int]
) -> None:
    body = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
    head = (
        b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    port = registry(head % len(body) + body)
    began = time.monotonic()
    assert without_images(refusal(settings(f"127.0.0.1:{port}/redis:8"))) == snapshot
    assert time.monotonic() - began < SOON_SECONDS


def test_a_registry_that_never_answers(
    refusal: Callable[[Settings], str],
    snapshot: SnapshotAssertion,
    registry: Callable[[bytes], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(docker_image, "SILENCE_SECONDS", 0.2)
    port = registry(b"")
    assert without_images(refusal(settings(f"127.0.0.1:{port}/redis:8"))) == snapshot


def without_images(text: str) -> str:
    """`text` without the names of the images that happen to be here."""
    before, _, after = text.partition("(on this machine: ")
    return f"{before}(on this machine: <images>){after.partition(')')[2]}"


@pytest.fixture
def registry() -> Iterator[Callable[[bytes], int]]:
    """A registry on loopback, which Docker speaks plain HTTP to, that gives each request one answer; b"" is none.

    Returns its port. At the end of the test the connections that were kept waiting are closed.
    """
    links: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(answer: bytes) -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                links.append(link)
                if answer and link.recv(65536):
                    link.sendall(answer)
                    link.close()

        threads: list[threading.Thread] = []

        def open_with(answer: bytes) -> int:
            threads.append(threading.Thread(target=serve, args=(answer,)))
            threads[-1].start()
            return int(listener.getsockname()[1])

        yield open_with
        listener.shutdown(socket.SHUT_RDWR)
        for link in links:
            link.close()
        for thread in threads:
            thread.join()
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "redisq-fetch"])
