"""The user's own server: the ways to reach it, and what is said when it is not what was hoped for."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.options import Settings
from pytest_redisq.servers import Server, start
from pytest_redisq.servers.external import ANSWER_SECONDS, without_secrets
from pytest_redisq.servers.key_lease import KeyLease
from tests.servers.conftest import anywhere
from tests.support import eventually, local

Refusal = Callable[[Settings], str]


def _start(*words: str) -> Server:
    return start(local(server_args=words))


def _at(server: Server, **changes: str) -> str:
    """The server's URL, with a part of it exchanged."""
    return urlsplit(server.url)._replace(**changes).geturl()


def _port(server: Server) -> int:
    return urlsplit(server.url).port or 0


def _use(url: str) -> str:
    """Reach it as a test would; the header tells how."""
    server = start(Settings(server=url))
    with server.client() as client:
        client.set("redisq:test", "value")
        assert client.get("redisq:test") == b"value"
    header = server.header()
    server.stop()
    return header


def test_a_password_and_a_database(process: Server) -> None:
    url = _at(process, path="/3")
    _use(url)
    with process.client() as client:
        assert client.info("keyspace")["db3"]["keys"] == 1
        assert "db0" not in client.info("keyspace")


def test_an_acl_user(process: Server) -> None:
    with process.client() as client:
        client.acl_setuser("ann", enabled=True, passwords=["+open sesame"], keys=["*"], categories=["+@all"])
    port = _port(process)
    assert "redis://ann:***@127.0.0.1" in _use(f"redis://ann:open%20sesame@127.0.0.1:{port}/0")


def test_a_unix_socket(folder: Path) -> None:
    server = _start("--unixsocket", str(folder / "s"))
    password = server.config("requirepass")
    _use(f"unix://:{password}@{folder}/s?db=2")
    server.stop()


#: The wheel's Valkey is built without TLS.
_SPEAKS_TLS = pytest.mark.process


@pytest.fixture
def tls(folder: Path) -> Iterator[str]:
    """A server with TLS and a certificate that it signed itself; the port, and the certificate in `folder`."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *names, *files], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as candidate:
        port = candidate.getsockname()[1]
    cert = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)]
    words = ("--tls-port", str(port), *cert, "--tls-auth-clients", "no", "--requirepass", "secret")
    server = start(Settings(server="process", server_args=words))
    yield str(port)
    server.stop()


@_SPEAKS_TLS
def test_tls(tls: str, folder: Path) -> None:
    _use(f"rediss://:secret@127.0.0.1:{tls}/0?ssl_ca_certs={folder}/certificate.pem")


@_SPEAKS_TLS
def test_keys_are_deleted_over_tls_by_the_cleaner(tls: str, folder: Path) -> None:
    prefix = "redisq:0123456789abcdef:"
    url = f"rediss://:secret@127.0.0.1:{tls}/0?ssl_ca_certs={folder}/certificate.pem"
    lease = KeyLease(url, prefix)
    lease.take()
    with redis.Redis.from_url(url) as client:
        client.set(f"{prefix}jobs", "a")
        lease.leave()
        eventually(lambda: client.keys() == [], 2.0)


@_SPEAKS_TLS
def test_tls_with_a_certificate_that_nobody_vouches_for(
    tls: str, refusal: Refusal, snapshot: SnapshotAssertion
) -> None:
    assert refusal(Settings(server=f"rediss://:secret@127.0.0.1:{tls}/0")) == snapshot


def test_tls_where_none_is_spoken(process: Server, refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    assert refusal(Settings(server=f"rediss://127.0.0.1:{_port(process)}/0")) == snapshot


@_SPEAKS_TLS
def test_no_tls_where_it_is_wanted(tls: str, refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    assert refusal(Settings(server=f"redis://:secret@127.0.0.1:{tls}/0")) == snapshot


def test_a_wrong_password(process: Server, refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    assert refusal(Settings(server=f"redis://:wrong@127.0.0.1:{_port(process)}/0")) == snapshot


def test_no_password(process: Server, refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    assert refusal(Settings(server=f"redis://127.0.0.1:{_port(process)}/0")) == snapshot


def test_no_such_database(process: Server, refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    assert refusal(Settings(server=_at(process, path="/99999"))) == snapshot


def test_a_user_who_may_not_write(process: Server, refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    with process.client() as client:
        client.acl_setuser("bob", enabled=True, nopass=True, keys=["*"], categories=["+@all", "-@write"])
    assert refusal(Settings(server=f"redis://bob:any@127.0.0.1:{_port(process)}/0")) == snapshot


def test_a_read_only_replica(process: Server, refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    process.config("repl-diskless-sync-delay", "0")  # by default a first replica waits five seconds for a second
    replica = _start("--replicaof", f"127.0.0.1 {_port(process)}", "--masterauth", process.config("requirepass"))
    eventually(lambda: replica.info("replication")["master_link_status"] == "up")
    assert refusal(Settings(server=replica.url)) == snapshot
    replica.stop()


def test_a_server_out_of_memory(process: Server, refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    process.config("maxmemory", "1mb")
    assert refusal(Settings(server=process.url)) == snapshot


def test_nobody_listens(refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    with socket.create_server(("127.0.0.1", 0)) as candidate:
        port = candidate.getsockname()[1]
    assert refusal(Settings(server=f"redis://127.0.0.1:{port}/0")) == snapshot


def test_no_such_socket(refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    assert refusal(Settings(server="unix:///nonexistent/socket")) == snapshot


def test_a_url_that_is_none(refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    assert refusal(Settings(server="redis://127.0.0.1:port/0")) == snapshot


@contextlib.contextmanager
def _listening(answer: bytes | None) -> Iterator[int]:
    """A port where each caller is given `answer` and then hung up on; with None, kept waiting."""
    callers: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                callers.append(caller)
                if answer is not None:
                    caller.recv(1000)
                    caller.sendall(answer)
                    caller.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for caller in callers:
                caller.close()


def test_a_port_of_another_protocol(refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    with _listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert refusal(Settings(server=f"redis://127.0.0.1:{port}/0")) == snapshot


def test_a_port_that_hangs_up(refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    with _listening(b"") as port:
        assert refusal(Settings(server=f"redis://127.0.0.1:{port}/0")) == snapshot


def test_a_port_that_says_nothing(refusal: Refusal, snapshot: SnapshotAssertion) -> None:
    with _listening(None) as port:
        began = time.monotonic()
        assert refusal(Settings(server=f"redis://127.0.0.1:{port}/0")) == snapshot
        assert time.monotonic() - began < ANSWER_SECONDS + 1


def test_checking_leaves_no_key(process: Server) -> None:
    start(Settings(server=process.url)).stop()
    with process.client() as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:p@ss:w/rd@localhost:6379/0", "redis://:***@localhost:6379/0"),
        ("unix://ann:secret@/tmp/s?db=1", "unix://ann:***@/tmp/s?db=1"),
        ("unix:///tmp/s?password=secret&db=1", "unix:///tmp/s?password=***&db=1"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_normalising_hides_what_differs_and_nothing_else() -> None:
    assert anywhere("The server at redis://127.0.0.1:4711/0 is odd: Error 111.\nWhat to do: ask port 4711.") == (
        "The server at redis://127.0.0.1:<port>/0 is odd: <their words>\nWhat to do: ask port <port>."
    )
