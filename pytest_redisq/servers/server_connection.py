"""A connection without redis-py: raw bytes, one request after the other.

A server boots faster than redis-py is imported, so the code that waits for the boot cannot use redis-py. The explorer
needs the exact bytes. The server answers all commands that do not block at once, so a blocking socket is enough, and
fastest.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from pytest_redisq.errors import ServerError
from pytest_redisq.options import check_url
from pytest_redisq.resp import Reply, ReplyError, ReplyParser, Value, decode_reply, encode_command
from pytest_redisq.secret import hide

#: Seconds that the server may take to reply to a command that does not block.
REPLY_SECONDS = 10.0
_CHUNK_BYTES = 1 << 18
_CLIENT = re.compile(rb"^id=(\d+) .* flags=(\S+)", re.MULTILINE)


class ServerClosedError(Exception):
    """The server has closed the connection."""


def url_options(url: str) -> dict[str, Any]:
    """The options of a Redis URL, as redis-py parses them. Raises ValueError for an invalid URL."""
    from redis.connection import parse_url

    check_url(url)
    options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    hide(options)
    return options


def login_commands(options: Mapping[str, Any]) -> list[tuple[str | int, ...]]:
    """The first commands of a new connection: AUTH and SELECT, as far as the options of its URL need them."""
    words: list[tuple[str | int, ...]] = []
    if options.get("password"):
        user = [options["username"]] if options.get("username") else []
        words.append(("AUTH", *user, options["password"]))
    if options.get("db"):
        words.append(("SELECT", options["db"]))
    return words


class ServerConnection:
    """One connection, logged in. A context manager; its end closes the connection.

    * `options`: as in `url_options`: "host" and "port", or "path"; "username", "password", "db"; those of TLS.
    * `seconds`: the longest time to connect, and for each reply; default 10.

    Raises OSError if there is no server, and ServerError if it refuses the login.
    """

    def __init__(self, options: Mapping[str, Any], *, seconds: float = REPLY_SECONDS) -> None:
        self._seconds = seconds
        self._socket = _connect(options, seconds)
        self._replies = ReplyParser()
        self._frames: list[Reply] = []
        #: The server's number for this connection (CLIENT ID); 0 if it was not asked.
        self.client_id: int = 0
        with self._closed_on_error():
            for command in login_commands(options):
                self.ask(*command)

    @classmethod
    def of(cls, url: str) -> ServerConnection:
        """A connection to a Redis URL, with its `client_id`. Raises as the class, and ValueError for an invalid URL."""
        connection = cls(url_options(url))
        with connection._closed_on_error():
            connection.client_id = int(str(connection.ask("CLIENT", "ID")))
        return connection

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ServerConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def peer(self) -> object:
        """The server's address, as `socket.getpeername` returns it."""
        return self._socket.getpeername()

    def fileno(self) -> int:
        """The socket's descriptor, to wait for it."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection. The server may notice it later."""
        self._socket.close()

    def send(self, raw: bytes) -> None:
        """Send a request without waiting for its reply.

        Raises `ServerClosedError`.
        """
        try:
            self._socket.sendall(raw)
        except OSError as error:
            raise ServerClosedError from error

    def receive(self) -> tuple[bytes, bytes]:
        """The next reply, and the push messages that came before it: `(pushed, reply)`.

        Raises `ServerClosedError`.
        """
        pushed = b""
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if not frame.push:
                    return pushed, frame.raw
                pushed += frame.raw
            self._read()

    def receive_until(self, token: bytes) -> bytes:
        """All bytes that came before the reply that contains `token`, without that reply.

        Raises `ServerClosedError`.
        """
        before = b""
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if token in frame.raw:
                    return before
                before += frame.raw
            self._read()

    def receive_raw(self) -> bytes:
        """All bytes that have come, whether they are whole replies or not.

        Raises `ServerClosedError`.
        """
        self._read()
        raw = b"".join(frame.raw for frame in self._frames)
        self._frames.clear()
        return raw

    def _read(self) -> None:
        try:
            data = self._socket.recv(_CHUNK_BYTES)
        except (TimeoutError, BlockingIOError) as error:
            raise ServerError(
                f"The server has not answered for {self._seconds:g} s to a command of redisq.\n"
                "What to do: check whether it is paused or overloaded, or runs a script that does not end."
            ) from error
        except OSError as error:
            raise ServerClosedError from error
        if not data:
            raise ServerClosedError
        frames = self._replies.feed(data)
        self._frames.extend(frame if isinstance(frame, Reply) else Reply(frame.raw) for frame in frames)

    def readable(self) -> bool:
        """Whether bytes have come."""
        return bool(self._frames) or bool(select.select([self._socket], [], [], 0)[0])

    def ask(self, *args: str | bytes | int | float) -> Value:
        """Send a command; returns the value of its reply.

        Raises ServerError if the server refuses it or does not answer, `ServerClosedError` if it closes the connection,
        and ValueError if the answer is not a RESP reply.
        """
        self.send(encode_command(args))
        return _value(args, self.receive()[1])

    def ask_all(self, commands: list[tuple[str | bytes | int | float, ...]]) -> list[Value]:
        """Send several commands in one round trip; returns the values of their replies. Errors are values here."""
        self.send(b"".join(map(encode_command, commands)))
        return [decode_reply(self.receive()[1]) for _ in commands]

    def blocked(self, ids: list[int]) -> set[int]:
        """Which of the clients with these ids are blocked in a command."""
        listing = self.ask("CLIENT", "LIST", "ID", *ids)
        text = listing if isinstance(listing, bytes) else b""
        return {int(found[1]) for found in _CLIENT.finditer(text) if b"b" in found[2]}

    def kill(self, client_id: int) -> None:
        """Have the server close a client's connection now. A blocked command of it has no effect any more."""
        with contextlib.suppress(ServerError):  # it is closed already
            self.ask("CLIENT", "KILL", "ID", client_id)


def _value(args: tuple[str | bytes | int | float, ...], raw: bytes) -> Value:
    value = decode_reply(raw)
    if isinstance(value, ReplyError):
        raise ServerError(f"The server refuses redisq's command {args[0]!s}: {value}")
    return value


def _connect(options: Mapping[str, Any], seconds: float) -> socket.socket:
    if path := options.get("path"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(seconds)
        connection.connect(os.fspath(path))
    else:
        connection = socket.create_connection((options.get("host", "localhost"), options.get("port", 6379)), seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if "SSL" in getattr(options.get("connection_class"), "__name__", ""):
            return _with_tls(connection, options)
    # The kernel's own timeout saves a poll before every read, which is a large part of a fast round trip.
    connection.setblocking(True)
    whole = int(seconds)
    limit = struct.pack("@ll", whole, int((seconds - whole) * 1_000_000))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    return connection


def _with_tls(connection: socket.socket, options: Mapping[str, Any]) -> socket.socket:
    import ssl  # here, because waiting for a server's boot must import little

    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_cert_reqs") == "none":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context.wrap_socket(connection, server_hostname=options.get("host", "localhost"))
