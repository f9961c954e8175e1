"""The supervisor of a server: it ends the server and removes its folder when the last holder of the lease is gone.

The lease is a FIFO. Every process that uses the server keeps its write end open. The supervisor, a shell script in its
own session, reads from it. End of file means that the last holder is gone, by whatever signal, including SIGKILL. Then
the supervisor kills the server and removes the folder. Orders to the supervisor go through the same FIFO. It writes its
answers, and each exit of the server, to `events`; the server's output goes to `log`.

On this machine a supervisor has three processes. Two of them wait for the first: if it is killed, they kill the server
and remove the folder. If all three are killed, `abandoned_folders` cleans up.

It is a shell script, because it also runs inside containers, where only a shell is available, and starts in 1 ms.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol

from pytest_redisq import interrupts
from pytest_redisq.errors import ServerError

#: The name of the FIFO in the folder.
LEASE = "lease"

#: The orders that a supervisor takes; "create" is for the container supervisor, before the script in it runs.
Order = Literal["create", "hello", "start", "kill", "pause", "resume"]

#: Seconds between two checks of a condition.
POLL_SECONDS = 0.002
#: Seconds between two checks whether the parent process is alive.
ORPHAN_SECONDS = 0.2
#: Seconds that an orphaned process may take to end after SIGINT.
ORPHAN_END_SECONDS = 1.0
#: Seconds that a supervisor may take for an order. It needs a millisecond; an overloaded machine needs more.
ORDER_SECONDS = 10.0
#: How many lines of the server's log an error message has at its end.
LOG_LINES = 12

#: $1 is a folder that exists for the supervisor's own files, the rest is the server's command.
#: stdin: lines "<token> <order>". stdout: "done <token>" after an order, "start <n>" before the n-th server (from 1)
#: starts, "exit <n> <status>" when it has ended. stderr: the server's output. The server's pid gets no signal after the
#: server has ended, because then it may belong to another process.
SCRIPT = r"""
PATH=$PATH:/usr/bin:/bin  # for mv, rm and sleep, even if a test has changed PATH
exec 3>&1
folder=$1; shift
n=0
start() {
  n=$((n + 1))
  echo "start $n"
  pid=$(
    {
      exec 6>&-  # see _DETACHED
      "$@" >&2 3>&- </dev/null &
      echo $!
      exec >&3
      wait $!
      status=$?
      : >"$folder/ended.$n"
      echo "exit $n $status"
    } &
  )
}
ended() { [ "$n" = 0 ] || [ -e "$folder/ended.$n" ]; }
signal() { ended || kill -s "$1" "$pid"; }
gone() {  # also if it is a zombie that init has not reaped yet
  kill -s 0 "$pid" || return 0
  read -r state <"/proc/$pid/stat" || return 1
  case ${state##*) } in Z*) return 0 ;; esac
  return 1
}
end() {
  signal KILL
  tries=0
  until ended || [ "$tries" = 300 ] || { [ "$1" = finally ] && gone; } 2>&-; do
    tries=$((tries + 1))
    sleep 0.01
  done
}
while read -r token order; do
  case $order in
    start) start "$@" ;;
    kill) end ;;
    pause) signal STOP ;;
    resume) signal CONT ;;
  esac
  echo "done $token"
done
end finally  # also if the subshell that waits for the server was killed
"""

# The launching process does not become the parent, so that it has no child to wait for. `kill 0` also kills processes
# that the server has forked (a background save). The folder is renamed first, since another run may be about to create
# it again. The second process reads from a pipe; only the script has its write end (6). It keeps the lease open (4), so
# that the supervisor counts as listening until the folder is gone. Their parent waits for both, and ends last.
_DETACHED = f"""
folder=$1
clear() {{
  mv "$folder" "$folder.gone"
  rm -rf "$folder.gone" || rm -rf "$folder.gone"
  kill -s KILL 0
}}
exec 4<&0 5>&1
{{
  {{
    exec 6>&1 >&5 5>&- <&4 4<&-
    {SCRIPT}
    clear
  }} | {{
    PATH=$PATH:/usr/bin:/bin
    exec 5>&-
    read -r _
    clear
  }}
  clear
}} &
"""


class LeaseHolder(Protocol):
    """Holds a lease while this process lives: of a server, or of keys on the user's own server."""

    def release(self) -> object: ...


_holders: weakref.WeakSet[LeaseHolder] = weakref.WeakSet()


class Supervisor:
    """One supervisor: its folder, this process's hold on its lease, and orders to it. Thread-safe.

    A forked child does not hold the lease, so that the server ends with its parent. It may still give orders.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._hold: int | None = None
        _holders.add(self)

    @property
    def _lease(self) -> Path:
        return self.directory / LEASE

    def establish(self) -> int:
        """Create the lease and hold it; returns the read end for the supervisor's stdin, which the caller closes."""
        new = self.directory / f"{LEASE}.new"
        os.mkfifo(new, 0o600)
        read_end = os.open(new, os.O_RDONLY | os.O_NONBLOCK)
        self._hold = os.open(new, os.O_WRONLY)
        new.rename(self._lease)  # renamed when it has a reader: a lease without a reader counts as abandoned
        os.set_blocking(read_end, True)
        return read_end

    def launch(self, command: Sequence[str]) -> None:
        """Start the supervisor on this machine. It starts the server at the order "start".

        `command`: the server's command line.
        """
        with interrupts.deferred():  # an interrupt would leave a folder that looks supervised but is not
            self._launch(command)

    def _launch(self, command: Sequence[str]) -> None:
        read_end = self.establish()
        try:
            with open(self.directory / "events", "ab") as events, open(self.directory / "log", "ab") as log:
                subprocess.run(
                    ["/bin/sh", "-c", _DETACHED, "redisq-supervisor", str(self.directory), *command],
                    stdin=read_end,
                    stdout=events,
                    stderr=log,
                    cwd=self.directory,
                    start_new_session=True,
                    check=True,
                )
        finally:
            os.close(read_end)

    def join(self) -> bool:
        """Hold the lease of a supervisor that another process started; returns False if it is gone."""
        try:
            self._hold = os.open(self._lease, os.O_WRONLY | os.O_NONBLOCK)
            self.order("hello")
        except (OSError, ServerError):
            self.release()
            return False
        return True

    def release(self) -> bool:
        """Release the lease. Returns False if this process held it, but its supervisor was gone.

        When the last holder has released it, the server and the folder are gone within milliseconds.
        """
        hold, self._hold = self._hold, None
        if hold is None:
            return True
        kept = self.listening()
        os.close(hold)
        return kept

    def discard(self) -> None:
        """Release the lease after a failed start, and remove the folder if there is no supervisor to do it."""
        kept = self.listening()
        self.release()
        if not kept:
            shutil.rmtree(self.directory, ignore_errors=True)

    def order(self, order: Order, *, seconds: float = ORDER_SECONDS) -> None:
        """Send an order and wait until it is done. Raises ServerError if the supervisor is gone or does not answer."""
        token = secrets.token_hex(8)
        try:
            lease = os.open(self._lease, os.O_WRONLY | os.O_NONBLOCK)
            with open(lease, "wb", buffering=0) as pipe:
                pipe.write(f"{token} {order}\n".encode())
        except OSError as error:
            raise ServerError(f"Cannot {order} the server: its supervisor is gone ({error.strerror}).") from error
        if not wait_until(lambda: ["done", token] in self._events() or not self.listening(), seconds):
            raise ServerError(f"Cannot {order} the server: its supervisor did not answer within {seconds:g} s.")
        if ["done", token] not in self._events():
            raise ServerError(f"Cannot {order} the server: its supervisor has just gone.")

    def listening(self) -> bool:
        """Whether the lease has a reader: the supervisor runs."""
        try:
            os.close(os.open(self._lease, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    def gone(self, seconds: float) -> bool:
        """Whether the supervisor ends within `seconds`."""
        return wait_until(lambda: not self.listening(), seconds)

    def running(self) -> bool:
        """Whether a server has been started and has not ended."""
        events = list(self._events())
        return sum(words[0] == "start" for words in events) > sum(words[0] == "exit" for words in events)

    def exits(self) -> list[int]:
        """The exit statuses of the servers that have ended, oldest first, as in a shell (137: SIGKILL)."""
        return [int(words[2]) for words in self._events() if words[0] == "exit"]

    def log(self) -> str:
        """The server's output so far."""
        try:
            return (self.directory / "log").read_text(errors="replace")
        except OSError:
            return ""

    def last_words(self) -> str:
        """The end of the log, indented, to close an error message with."""
        lines = [line for line in self.log().splitlines() if line.strip()][-LOG_LINES:]
        if not lines:
            return "The server wrote no log."
        return "The server's last log lines:\n" + "\n".join(f"  {line}" for line in lines)

    def _events(self) -> Iterator[list[str]]:
        with contextlib.suppress(OSError):
            for line in (self.directory / "events").read_text().splitlines():
                yield line.split()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until `condition` is true; returns False if it is not within `seconds`. Checks every few milliseconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def release_with_all(holder: LeaseHolder) -> None:
    """Release `holder` whenever all leases are released: in a forked child, and when the parent process has died."""
    _holders.add(holder)


def release_all() -> None:
    """Release every lease that this process holds."""
    for holder in list(_holders):
        holder.release()


def end_when_orphaned() -> None:
    """End this process when its parent has died: release every lease, send SIGINT, and exit if that has no effect."""
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_SECONDS)
        release_all()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(ORPHAN_END_SECONDS)
        os._exit(1)

    threading.Thread(target=follow, name="redisq-follow", daemon=True).start()


os.register_at_fork(after_in_child=release_all)
