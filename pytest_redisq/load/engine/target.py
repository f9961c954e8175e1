"""The server's address, for connections that the epoll engine makes by itself."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple, cast

from redis.connection import parse_url

from pytest_redisq.resp import encode_command


class Target(NamedTuple):
    """A server's address as sockets take it, and the first commands of a new connection."""

    family: int
    address: Any
    handshake: bytes
    #: The number of replies to the handshake; the last is the client's id.
    handshake_replies: int

    @classmethod
    def of(cls, url: str, name: str) -> Target:
        """Returns the target of a Redis URL, for clients called `name`. Raises ValueError for TLS."""
        if url.startswith("rediss:"):
            raise ValueError("the epoll engine has no TLS; use --engine locust, or a tunnel")
        options: dict[str, Any] = dict(cast(Any, parse_url)(url))
        words: list[tuple[str | int, ...]] = []
        if password := options.get("password"):
            words.append(("AUTH", options.get("username") or "default", password))
        if database := options.get("db"):
            words.append(("SELECT", database))
        words += [("CLIENT", "SETNAME", name), ("CLIENT", "ID")]
        handshake = b"".join(map(encode_command, words))
        if path := options.get("path"):
            return cls(socket.AF_UNIX, path, handshake, len(words))
        family, _, _, _, address = socket.getaddrinfo(
            options.get("host", "localhost"), options.get("port", 6379), type=socket.SOCK_STREAM
        )[0]
        return cls(family, address, handshake, len(words))
