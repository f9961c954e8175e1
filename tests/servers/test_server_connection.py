"""A connection without redis-py: the login, whole replies, and the errors without a server or with a wrong password."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from pytest_redisq.errors import ServerError
from pytest_redisq.servers import Server
from pytest_redisq.servers.server_connection import ServerClosedError, ServerConnection, login_commands


def options_of(server: Server) -> dict[str, Any]:
    where = urlsplit(server.url)
    return {"host": where.hostname, "port": where.port, "password": unquote(where.password or "")}


def test_a_reply_comes_whole(redisq_server: Server) -> None:
    with ServerConnection(options_of(redisq_server)) as connection:
        assert connection.ask("PING") == b"PONG"
        assert connection.ask("ECHO", "x" * 200_000) == b"x" * 200_000
        assert connection.ask("QUIT") == b"OK"
        with pytest.raises(ServerClosedError):
            connection.ask("PING")


def test_a_wrong_password_is_an_error(redisq_server: Server) -> None:
    with pytest.raises(ServerError, match="refuses redisq's command AUTH: WRONGPASS"):
        ServerConnection(options_of(redisq_server) | {"password": "wrong"})


def test_no_server_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        ServerConnection({"port": port})


def test_an_answer_that_is_not_resp_is_an_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        ServerConnection({"port": listening.getsockname()[1], "host": "127.0.0.1"}) as connection,
        listening.accept()[0] as peer,
    ):
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ValueError, match="not one whole reply"):
            connection.ask("PING")


def test_a_server_that_does_not_answer_is_an_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        ServerConnection({"port": listening.getsockname()[1], "host": "127.0.0.1"}, seconds=0.05) as connection,
        listening.accept()[0],
        pytest.raises(ServerError, match=r"has not answered for 0\.05 s"),
    ):
        connection.ask("PING")


@pytest.mark.parametrize(
    ("options", "commands"),
    [
        ({}, []),
        ({"password": "p"}, [("AUTH", "p")]),
        ({"username": "u", "password": "p", "db": 3}, [("AUTH", "u", "p"), ("SELECT", 3)]),
        ({"username": "u", "db": 0}, []),
    ],
)
def test_the_login_has_the_commands_that_the_url_needs(
    options: dict[str, Any], commands: list[tuple[str | int, ...]]
) -> None:
    assert login_commands(options) == commands
