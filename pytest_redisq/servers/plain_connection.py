"""A plain connection to a server on this machine: a socket and the parser of RESP, without redis-py.

A server boots faster than redis-py is imported, so what waits for the boot cannot use it.
"""

from __future__ import annotations

import socket
from types import TracebackType

from pytest_redisq.resp import Reply, ReplyParser, encode_command


class PlainConnection:
    """An authenticated connection. A context manager; its end closes the connection.

    `host`, `port`: where the server listens. `password`: of the default user; "" for none. `seconds`: the longest time
    to connect and for each reply. Raises OSError if there is no server, PermissionError if it refuses the password.
    """

    def __init__(self, host: str, port: int, password: str, *, seconds: float) -> None:
        self._socket = socket.create_connection((host, port), seconds)
        self._parser = ReplyParser()
        try:
            if password and self.ask("AUTH", password) != b"+OK\r\n":
                raise PermissionError("the server refuses the password")
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> PlainConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, *words: str) -> bytes:
        """Send a command; returns the bytes of its reply, b"" if the server has closed the connection.

        Raises OSError on a timeout or a broken connection.
        """
        self._socket.sendall(encode_command(words))
        while chunk := self._socket.recv(1 << 16):
            for frame in self._parser.feed(chunk):
                if not isinstance(frame, Reply):
                    raise ConnectionError("the answer is not RESP")
                return frame.raw
        return b""
