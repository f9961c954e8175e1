"""Actors that are processes: programs in any language, and functions in a process of their own.

The explorer cannot see what a process does between two commands. A process counts as quiet when it holds a command, or
is blocked in the server, and has been silent for a moment. Its sleeps take real time.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pytest_redisq.children import ChildProcess, follow_parent
from pytest_redisq.explore.actor_threads import ActorKilled, ActorRunner, ActorThread, runnable
from pytest_redisq.explore.mailbox import Mailbox
from pytest_redisq.servers.temporary_folder import keep_multiprocessing_folder

#: How `multiprocessing` makes a process. Not by fork: it would hold copies of the proxy's own connections, which then
#: do not end when they are cut.
StartMethod: TypeAlias = Literal["spawn", "forkserver"]


class ProcessRunner(ActorRunner):
    """Runs a process; a thread waits for its end."""

    #: SIGKILL ends it for certain, but a busy machine takes its time, and the process has to be reaped.
    exit_seconds: float = 5.0

    def __init__(self, mailbox: Mailbox, actor: int, actor_thread: ActorThread) -> None:
        super().__init__(mailbox, actor, actor_thread)
        self._starting = threading.Lock()

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """Its process id; None before it has started."""

    @abstractmethod
    def end(self) -> None:
        """Send SIGKILL."""

    def cpu_seconds(self) -> float:
        """The CPU time that it has used so far (Linux)."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def busy(self) -> bool:
        """Whether any of its threads is running."""
        return self.pid is not None and any(map(runnable, Path(f"/proc/{self.pid}/task").glob("*")))

    def wake(self) -> None:
        """Do nothing: a process has real time."""

    @property
    def can_be_terminated(self) -> bool:
        """Whether it runs."""
        return self.pid is not None

    def terminate(self) -> None:
        """Send SIGTERM. Whatever its exit status is then, it is no error."""
        self.terminated = True
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        with self._starting:
            self.killed = True
            if self.pid is not None:
                self.end()


class ProgramRunner(ProcessRunner):
    """Runs a program, which gets its URL by its arguments and its environment."""

    def __init__(
        self, mailbox: Mailbox, actor: int, actor_thread: ActorThread, command: Sequence[str], env: Mapping[str, str]
    ) -> None:
        super().__init__(mailbox, actor, actor_thread)
        self._command = command
        self._env = env
        self._child: ChildProcess | None = None

    @property
    def pid(self) -> int | None:
        return self._child.process.pid if self._child else None

    def call(self) -> subprocess.CompletedProcess[bytes]:
        """Run the program to its end.

        Raises `CalledProcessError` where it fails by itself.
        """
        with self._starting:
            if self.killed:
                raise ActorKilled
            self._child = ChildProcess(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        with self._child.process as process:
            out, err = process.communicate()
        self._child.end()
        if self.killed:
            raise ActorKilled
        ended = subprocess.CompletedProcess(self._command, process.returncode, out, err)
        if not self.terminated:
            ended.check_returncode()
        return ended

    def end(self) -> None:
        """Send SIGKILL to it and to all processes that it has started."""
        assert self._child
        self._child.end()


class FunctionRunner(ProcessRunner):
    """Runs a function in a process of its own, with a URL; its result or its error comes back pickled."""

    def __init__(
        self,
        mailbox: Mailbox,
        actor: int,
        actor_thread: ActorThread,
        method: StartMethod,
        function: Callable[..., Any],
        *args: Any,
    ) -> None:
        super().__init__(mailbox, actor, actor_thread)
        self._method = method
        self._function = function
        self._args = args
        self._process: BaseProcess | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def call(self) -> Any:
        """Run the function to its end.

        Raises what it raises, and `ChildProcessError` if its process dies without a result.
        """
        __tracebackhide__ = True
        if self._method == "forkserver":
            keep_multiprocessing_folder()
        context: Any = multiprocessing.get_context(self._method)
        receiver, sender = context.Pipe(duplex=False)
        with receiver:
            with self._starting, sender:
                if self.killed:
                    raise ActorKilled
                self._process = context.Process(
                    target=_child, args=(sender, self._function, self._args), name="redisq-actor"
                )
                self._process.start()
            try:
                returned, value = receiver.recv()
            except EOFError:
                returned, value = False, None
        self._process.join()
        if self.killed:
            raise ActorKilled
        if returned:
            return value
        if self.terminated and value is None:
            return None
        raise value or ChildProcessError(f"its process ended with exit code {self._process.exitcode}")

    def end(self) -> None:
        """SIGKILL."""
        assert self._process
        self._process.kill()


def _child(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Runs in the function's own process."""
    follow_parent()
    with sender:
        try:
            answer: tuple[bool, Any] = True, function(*args)
        except Exception as error:
            answer = False, error
        sender.send(answer)
