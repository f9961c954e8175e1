"""The server's address, for the epoll engine, which opens its own sockets."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from pytest_redisq.resp import encode_command
from pytest_redisq.servers.server_connection import login_commands, url_options


class Target(NamedTuple):
    """A server's address in the form that sockets need, and the first commands of a new connection."""

    family: int
    address: Any
    handshake: bytes
    #: The number of replies to the handshake. The last one is the client's id.
    handshake_replies: int

    @classmethod
    def of(cls, url: str, name: str) -> Target:
        """The target of a Redis URL. `name`: the clients' name in CLIENT LIST. Raises ValueError for TLS."""
        if url.startswith("rediss:"):
            raise ValueError("the epoll engine does not support TLS; use --engine locust, or a tunnel")
        options = url_options(url)
        words = [*login_commands(options), ("CLIENT", "SETNAME", name), ("CLIENT", "ID")]
        handshake = b"".join(map(encode_command, words))
        if path := options.get("path"):
            return cls(socket.AF_UNIX, path, handshake, len(words))
        family, _, _, _, address = socket.getaddrinfo(
            options.get("host", "localhost"), options.get("port", 6379), type=socket.SOCK_STREAM
        )[0]
        return cls(family, address, handshake, len(words))
