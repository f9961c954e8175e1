"""Child processes that end when this process ends, by whatever signal: SIGKILL, SIGHUP of a closed terminal, any.

`ChildProcess` runs a program in its own session, with a watchdog beside it. The watchdog is a shell that reads from a
pipe; only this process has the write end. End of file means that this process is gone. The watchdog then kills the
whole session, including process groups that the program has made. `follow_parent` does the same inside a process of
`multiprocessing`.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import select
import shutil
import signal
import subprocess
import threading
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

#: Seconds that the kernel may take to end the processes of a killed session.
_DEATH_SECONDS = 5.0

#: $1 is the number of the pipe's read end, the rest is the command. The watchdog is not a child of the program, since
#: the program may wait for its children or signal them. It ignores the signals that the program's process group gets.
#: `$$` is the session's id.
_WITH_WATCHDOG = r"""
lease=/dev/fd/$1; shift
(
  {
    trap "" HUP INT QUIT TERM USR1 USR2
    read -r _
    read -r me _ </proc/self/stat
    for time in 1 2; do  # a process that is killed the first time may have forked just before
      for stat in /proc/[0-9]*/stat; do
        read -r line <"$stat" || continue
        pid=${line%% *}
        set -- ${line##*) }
        [ "$4" = $$ ] && [ "$pid" != "$me" ] && kill -s KILL "$pid"
      done
    done
    kill -s KILL 0
  } <"$lease" >/dev/null 2>&1 &
)
exec "$@"
"""

_children: weakref.WeakSet[ChildProcess] = weakref.WeakSet()


class ChildProcess:
    """A program in its own session, which ends when this process ends, or earlier.

    `command`: the program and its arguments. `options`: those of `subprocess.Popen` except `start_new_session` and
    `pass_fds`. Raises FileNotFoundError if the program does not exist.
    """

    def __init__(self, command: Sequence[str | os.PathLike[str]], **options: Any) -> None:
        environ = options.get("env") or os.environ
        if shutil.which(command[0], path=environ.get("PATH")) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(command[0]))
        read_end, write_end = os.pipe()
        self._lease: int | None = write_end
        self._ending = threading.Lock()
        _children.add(self)
        try:
            self.process: subprocess.Popen[Any] = subprocess.Popen(
                ["/bin/sh", "-c", _WITH_WATCHDOG, "redisq-watchdog", str(read_end), *command],
                start_new_session=True,
                pass_fds=(read_end,),
                **options,
            )
        except BaseException:
            self._let_go()
            raise
        finally:
            os.close(read_end)

    def signal(self, number: signal.Signals) -> None:
        """Send the signal `number` to the program's process group. No error if the group is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> None:
        """Send SIGKILL to all processes of the session. Repeated calls do nothing. The caller waits for `process`."""
        with self._ending:
            if self._lease is None:
                return
            with contextlib.suppress(BrokenPipeError):
                os.write(self._lease, b"\n")
            # The pipe has no reader once the watchdog is gone; by then it has killed the session.
            gone = select.poll()
            gone.register(self._lease, 0)
            if not gone.poll(_DEATH_SECONDS * 1000) and self.process.poll() is None:  # the watchdog itself was killed
                self.signal(signal.SIGKILL)
            self._let_go()

    def _let_go(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            os.close(lease)


def children_of(process: int) -> list[int]:
    """The ids of the child processes of `process`, ascending. Raises OSError where there is no /proc."""
    return sorted(number for number, parent, _ in _processes() if parent == process)


def session_of(leader: int) -> list[int]:
    """The ids of the processes in the session that `leader` leads or led, ascending. Raises OSError without /proc."""
    return sorted(number for number, _, session in _processes() if session == leader)


def _processes() -> Iterator[tuple[int, int, int]]:
    """Id, parent and session of each process."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended in the meantime
                with open(f"/proc/{name}/stat", "rb") as stat:
                    _, _, rest = stat.read().rpartition(b")")  # a program's name may contain blanks and brackets
                _, parent, _, session, *_ = rest.split()
                yield int(name), int(parent), int(session)


def follow_parent() -> None:
    """End this process, made by `multiprocessing`, as soon as its parent process has died."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "only in a process that multiprocessing has made"

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, name="redisq-follow", daemon=True).start()


def _let_go_of_inherited() -> None:
    # A forked child that kept the pipe open would hide from the watchdog that this process is gone.
    for child in list(_children):
        child._let_go()


os.register_at_fork(after_in_child=_let_go_of_inherited)
