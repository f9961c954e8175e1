"""A command that is ended in some way, and the processes that it has started, known by a mark in their environment."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

#: How soon after a command's end all that it has started must be gone, in seconds.
GONE_SECONDS = 2.0
#: How long the command itself may take to end, in seconds.
END_SECONDS = 60.0

#: Ways to end a command: a signal to its process alone, or its terminal is closed.
CLOSED_TERMINAL = "closed terminal"
ENDINGS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGKILL", CLOSED_TERMINAL)

_ON_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Attacked:
    """A command under way, whose temporary files lie in `place/tmp`; its output goes to `place/output`."""

    def __init__(self, place: Path, command: Sequence[str], *, ending: str = "", **environ: str) -> None:
        self.output = place / "output"
        self.temporary = place / "tmp"
        self.temporary.mkdir()
        self._ending = ending
        self._mark = f"ATTACKED={place}".encode()
        environ = os.environ | {"ATTACKED": str(place), "TMPDIR": str(self.temporary)} | environ
        with contextlib.ExitStack() as held:
            out: int = held.enter_context(open(self.output, "wb")).fileno()
            if ending == CLOSED_TERMINAL:
                self._terminal, out = os.openpty()
                held.callback(os.close, out)
                command = [sys.executable, "-c", _ON_TERMINAL, *command]
            self.process = subprocess.Popen(
                command,
                cwd=place,
                env=environ,
                stdin=out if ending == CLOSED_TERMINAL else subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=ending != CLOSED_TERMINAL,
            )

    def running(self) -> dict[int, str]:
        """The command lines of the processes that bear the mark, by process id; zombies do not."""
        found: dict[int, str] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = words.decode(errors="replace").strip()
        return found

    def count(self, *words: str) -> int:
        """How many of them have one of `words` in their command line."""
        return sum(any(word in command for word in words) for command in self.running().values())

    def end(self) -> None:
        """End the command in its way, and wait until it has ended."""
        if self._ending == CLOSED_TERMINAL:
            os.close(self._terminal)
        else:
            self.process.send_signal(signal.Signals[self._ending])
        self.process.wait(END_SECONDS)

    def has_left_nothing(self) -> None:
        """Soon after the command has ended: no process, and no file in its TMPDIR."""
        deadline = time.monotonic() + GONE_SECONDS
        while running := self.running():
            watched = select.poll()
            with contextlib.ExitStack() as held:
                for pid in running:
                    with contextlib.suppress(ProcessLookupError):
                        descriptor = os.pidfd_open(pid)
                        held.callback(os.close, descriptor)
                        watched.register(descriptor, select.POLLIN)
                        if not watched.poll(max(0.0, deadline - time.monotonic()) * 1000):
                            self.kill()
                            raise AssertionError(f"{GONE_SECONDS:g} s after its end there still run {running}")
                        watched.unregister(descriptor)
        assert not (left := [str(path) for path in self.temporary.rglob("*")]), left

    def kill(self) -> None:
        """SIGKILL all of it, for a test that has failed."""
        for pid in self.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
