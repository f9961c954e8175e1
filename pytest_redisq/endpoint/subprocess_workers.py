"""Producers and consumers in any language: command lines that speak a line protocol.

*Producer*: each line of its standard input is a body to be put. For each it writes one line to its standard output:
`ok`, or `ok` and the queue's id for it; `fail` and why, if it certainly did not happen; `info` and why, if it cannot
know.

*Consumer*: writes each body that it received, as soon as it has it, as a line of JSON: a string, or an object with
`body` and perhaps `id`; and each time that it has waited for a message in vain, a second at most, `null`.

A fault kills a command by SIGKILL, at any moment of what it does. The lines that it has written by then are done.

Both exit when their standard input ends. One that does not within two seconds gets SIGTERM, and after two more SIGKILL.
In arguments, `{url}` becomes the server's URL and `{name}` the worker's name; the URL is in the environment, too, as
REDIS_URL: there no other user of the machine can read its password, as they can in a command line. What a failing
command wrote to its standard error is shown. Bodies are of ASCII characters without line ends (a payload of your own
must be, too).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from pytest_redisq.children import ChildProcess
from pytest_redisq.endpoint.outcomes import DeclaredFailureError, WorkerKilled
from pytest_redisq.errors import TrafficError
from pytest_redisq.queues import Delivery, Stopped
from pytest_redisq.terminal import escaped

#: How long a command may take to exit once its input has ended, and again after SIGTERM, in seconds.
_EXIT_SECONDS = 2.0
#: How much of the end of what it wrote to standard error is shown.
_SHOWN_BYTES = 2_000


@dataclass(frozen=True, slots=True)
class Command:
    """A command line that runs as a producer or a consumer.

    The module docstring of `pytest_redisq.endpoint.subprocess_workers` describes its line protocol.

    ```python
    redisq.run((Command(["node", "produce.js", "{url}"]), Command(["./consume", "{url}"])), producers=2, consumers=2)
    ```
    """

    argv: tuple[str, ...] | list[str]

    def filled(self, url: str, name: str) -> list[str]:
        return [argument.replace("{url}", url).replace("{name}", name) for argument in self.argv]


class CommandProcess:
    """A running command, its lines in and its lines out."""

    def __init__(self, command: Command, url: str, name: str) -> None:
        self._shown = " ".join(command.argv)  # as written, since the URL has the password in it
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        try:
            self._child = ChildProcess(
                command.filled(url, name),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=os.environ | {"REDIS_URL": url},
                bufsize=0,
            )
        except OSError as error:
            self._errors.close()
            raise TrafficError(f"The command {self._shown} cannot be started: {error}") from error
        self._process = self._child.process
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)

    def write(self, line: bytes) -> None:
        try:
            self._in.write(line + b"\n")
        except OSError:
            raise self._died("ended") from None

    def read(self, seconds: float | None) -> bytes | None:
        """The next line; None where none came within so many seconds; EOFError where none will."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while (end := self._buffer.find(b"\n")) < 0:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._selector.select(left):
                return None
            data = os.read(self._out.fileno(), 1 << 16)
            if not data:
                raise EOFError
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def unintelligible(self, line: bytes) -> TrafficError:
        return self._died(
            f"wrote a line that is not of the protocol of pytest_redisq.endpoint.subprocess_workers: {line!r}"
        )

    def died(self) -> TrafficError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_SECONDS)
        return self._died(f"ended with exit status {self._process.returncode} before it was told to stop")

    def _died(self, how: str) -> TrafficError:
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _SHOWN_BYTES))
        errors = escaped(self._errors.read().decode(errors="replace").strip(), allowed="\n\t") or "(nothing)"
        return TrafficError(f"The command {self._shown} {how}; to its standard error it wrote:\n{errors}")

    def end_input(self) -> None:
        with suppress(OSError):
            self._in.close()

    def nudge(self, number: signal.Signals) -> None:
        if number == signal.SIGKILL:
            self._child.end()
        else:
            self._child.signal(number)

    def close(self) -> None:
        """Have it exit, by force if need be; nothing of its session is left."""
        self.end_input()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_SECONDS)
                break
            self.nudge(number)
        self.kill()

    def kill(self) -> None:
        """QueueEndpoint its whole session at once."""
        self._child.end()
        self._process.wait()
        self.end_input()
        self._selector.close()
        self._out.close()
        self._errors.close()


class CommandProducer:
    """`put` by way of a command."""

    def __init__(self, command: Command, url: str, name: str) -> None:
        self._process = CommandProcess(command, url, name)
        self.kill: Callable[[], None] = self._process.kill
        self.close: Callable[[], None] = self._process.close

    def put(self, body: bytes) -> str | None:
        if b"\n" in body:
            raise TrafficError(f"A body for a command's standard input may not hold a line end: {body[:60]!r}")
        self._process.write(body)
        try:
            line = self._process.read(None)
        except EOFError:
            raise self._process.died() from None
        assert line is not None
        word, _, rest = line.decode(errors="replace").partition(" ")
        match word:
            case "ok":
                return rest.strip() or None
            case "fail":
                raise DeclaredFailureError(rest)
            case "info":
                raise RedisConnectionError(rest)
            case _:
                raise self._process.unintelligible(line)


class CommandConsumer:
    """`get` by way of a command. After `stop` it hands out what the command still writes, then raises `Stopped`.

    After `kill`, which is a SIGKILL, it hands out what the command had written, for that is done. Then it raises
    `WorkerKilled`, so that the get under way never ends: the command may have been receiving a message.
    """

    def __init__(self, command: Command, url: str, name: str) -> None:
        self._process = CommandProcess(command, url, name)
        self._stopped_at: float | None = None
        self._nudged = False
        self._killed = False
        self.close: Callable[[], None] = self._process.close

    def get(self, wait_seconds: float) -> Delivery | None:
        try:
            self._lose_patience()
            # Silence is no answer: only the command knows whether it has asked, and asked in vain.
            while (line := self._process.read(wait_seconds)) is None:
                self._lose_patience()
        except EOFError:
            if self._killed:
                raise WorkerKilled from None
            if self._stopped_at is None:
                raise self._process.died() from None
            raise Stopped from None
        return self._delivery(line)

    def kill(self) -> None:
        self._killed = True
        self._process.nudge(signal.SIGKILL)

    def stop(self) -> None:
        self._stopped_at = time.monotonic()
        self._process.end_input()

    def _delivery(self, line: bytes) -> Delivery | None:
        try:
            value: Any = json.loads(line)
        except ValueError:
            raise self._process.unintelligible(line) from None
        match value:
            case None:
                return None
            case str():
                return Delivery(body=value.encode())
            case {"body": str() as body}:
                name = value.get("id")
                return Delivery(body=body.encode(), id=None if name is None else str(name))
            case _:
                raise self._process.unintelligible(line)

    def _lose_patience(self) -> None:
        late = 0.0 if self._stopped_at is None else time.monotonic() - self._stopped_at
        if late > 2 * _EXIT_SECONDS:
            self._process.nudge(signal.SIGKILL)
        elif late > _EXIT_SECONDS and not self._nudged:
            self._nudged = True
            self._process.nudge(signal.SIGTERM)
