"""A connection to the server of the explorer's own: raw bytes, one request after the other.

The server answers at once all that does not block, so a plain blocking socket is enough, and fastest.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.connection import parse_url

from pytest_redisq.errors import ServerError
from pytest_redisq.options import check_url
from pytest_redisq.resp import Reply, ReplyError, ReplyParser, Value, decode_reply, encode_command
from pytest_redisq.secret import hide

#: Seconds that the server may take to reply to a command that does not block.
_REPLY_SECONDS = 10.0
_CHUNK_BYTES = 1 << 18
#: The longest path that a unix socket may have on each system: macOS takes four less than Linux.
_PATH_BYTES = 103
_CLIENT = re.compile(rb"^id=(\d+) .* flags=(\S+)", re.MULTILINE)


class ServerClosedError(Exception):
    """The server has closed the connection."""


def listen_at(path: Path | None) -> tuple[socket.socket, str]:
    """A socket that listens, and its URL: at `path`; on a free port if it is None, or longer than sockets take."""
    if path is not None and len(os.fsencode(path)) <= _PATH_BYTES:
        listening, url = socket.socket(socket.AF_UNIX), f"unix://{path}"
        listening.bind(os.fspath(path))
    else:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{listening.getsockname()[1]}"
    listening.listen(128)
    listening.setblocking(False)
    return listening, url


class ServerConnection:
    """One connection, authenticated and in the URL's database; `client_id` is the server's name for it."""

    def __init__(self, url: str) -> None:
        check_url(url)
        options = parse_url(url)  # type: ignore[no-untyped-call]
        hide(options)
        self._socket = _connect(options)
        if not isinstance(self._socket, ssl.SSLSocket):
            # The kernel's own timeout spares a poll before every read, which is a good part of a fast round trip.
            self._socket.setblocking(True)
            limit = struct.pack("@ll", int(_REPLY_SECONDS), 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._replies = ReplyParser()
        self._frames: list[Reply] = []
        try:
            self._log_in(options)
            self.client_id: int = int(str(self.ask("CLIENT", "ID")))
        except BaseException:
            self.close()
            raise

    def _log_in(self, options: Mapping[str, Any]) -> None:
        if options.get("password"):
            user = [options["username"]] if options.get("username") else []
            self.ask("AUTH", *user, options["password"])
        if options.get("db"):
            self.ask("SELECT", options["db"])

    def fileno(self) -> int:
        """For waiting on it."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it; the server may notice later."""
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
        """The next reply, and the push messages that came before it.

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
        """All that came before the reply that has `token` in it, which is left out.

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
        """Whatever has come, framed or not.

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
                f"The server has not answered for {_REPLY_SECONDS:g} s to a command of the explorer.\n"
                "What to do: check whether it is paused or overloaded, or runs a script that does not end."
            ) from error
        except OSError as error:
            raise ServerClosedError from error
        if not data:
            raise ServerClosedError
        frames = self._replies.feed(data)
        self._frames.extend(frame if isinstance(frame, Reply) else Reply(frame.raw) for frame in frames)

    def readable(self) -> bool:
        """Whether something has come."""
        return bool(self._frames) or bool(select.select([self._socket], [], [], 0)[0])

    def ask(self, *args: str | bytes | int | float) -> Value:
        """The value of the reply to a command of our own.

        Raises `ServerError` where the server refuses it.
        """
        self.send(encode_command(args))
        return _value(args, self.receive()[1])

    def ask_all(self, commands: list[tuple[str | bytes | int | float, ...]]) -> list[Value]:
        """The values of the replies to commands of our own, in one round trip; errors among them are values."""
        self.send(b"".join(map(encode_command, commands)))
        return [decode_reply(self.receive()[1]) for _ in commands]

    def blocked(self, ids: list[int]) -> set[int]:
        """Which of the clients of these ids are blocked in a command."""
        listing = self.ask("CLIENT", "LIST", "ID", *ids)
        text = listing if isinstance(listing, bytes) else b""
        return {int(found[1]) for found in _CLIENT.finditer(text) if b"b" in found[2]}

    def kill(self, client_id: int) -> None:
        """Have the server drop a client now; what it was blocked in takes nothing any more."""
        with contextlib.suppress(ServerError):  # already gone
            self.ask("CLIENT", "KILL", "ID", client_id)


def _value(args: tuple[str | bytes | int | float, ...], raw: bytes) -> Value:
    value = decode_reply(raw)
    if isinstance(value, ReplyError):
        raise ServerError(f"The server refuses the explorer's command {args[0]!s}: {value}")
    return value


def _connect(options: Mapping[str, Any]) -> socket.socket:
    if path := options.get("path"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_REPLY_SECONDS)
        connection.connect(os.fspath(path))
        return connection
    host = options.get("host", "localhost")
    connection = socket.create_connection((host, options.get("port", 6379)), _REPLY_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if "connection_class" not in options or "SSL" not in options["connection_class"].__name__:
        return connection
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_cert_reqs") == "none":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context.wrap_socket(connection, server_hostname=host)
