"""A plain connection: the login, whole replies, and what happens where there is no server or a wrong password."""

from __future__ import annotations

import socket
from urllib.parse import unquote, urlsplit

import pytest

from pytest_redisq.servers import Server
from pytest_redisq.servers.plain_connection import PlainConnection


def test_a_reply_comes_whole(redisq_server: Server) -> None:
    where = urlsplit(redisq_server.url)
    password = unquote(where.password or "")
    with PlainConnection(str(where.hostname), where.port or 0, password, seconds=5) as connection:
        assert connection.ask("PING") == b"+PONG\r\n"
        assert connection.ask("ECHO", "x" * 200_000) == b"$200000\r\n" + b"x" * 200_000 + b"\r\n"
        assert connection.ask("QUIT") == b"+OK\r\n"
        assert connection.ask("PING") == b""


def test_a_wrong_password_is_an_error(redisq_server: Server) -> None:
    where = urlsplit(redisq_server.url)
    with pytest.raises(PermissionError):
        PlainConnection(str(where.hostname), where.port or 0, "wrong", seconds=5)


def test_an_answer_that_is_not_resp_is_an_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        PlainConnection("127.0.0.1", listening.getsockname()[1], "", seconds=5) as connection,
        listening.accept()[0] as peer,
    ):
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ConnectionError):
            connection.ask("PING")
