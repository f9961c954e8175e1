"""A program that outlives a run on the user's own server, and deletes the run's keys if the run did not.

It runs in its own session and reads from a pipe; the run holds the write end. The first line says what to do
(see `KeyLease`), as JSON. It comes through the pipe because other users can read a command line or an environment,
and a URL may hold a password. The line "done" means that the run has deleted its keys. The line "clean" leaves that to
this program. End of file without either line means that a signal ended the run, or that the run is about to end because
its parent has died. Then this program deletes the keys, and looks again until the processes of the run are gone. While
the run lives, this program renews its lease, so that the lease does not expire while a debugger stops the run.

It is run by its path and imports only what it needs to wait. It imports redis-py only if the run takes longer.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from typing import Any

#: Seconds after the start when redis-py is imported: a short run need not pay for the import, and the end of a long run
#: need not wait for it.
LOAD_SECONDS = 0.5
#: Seconds between two renewals of the lease, and after a failed renewal.
RENEW_SECONDS, RETRY_SECONDS = 600.0, 10.0
#: Seconds during which the deletion of keys is repeated if the server cannot be reached. The next run that starts after
#: the lease has expired deletes the rest.
REACH_SECONDS = 1.0
#: Seconds until another look after the deletion: children of the run may live so much longer.
LATE_SECONDS = 0.4
#: The most rounds of deleting keys, and of looking again.
ROUNDS = 80
_POLL_SECONDS = 0.05
DONE, CLEAN = "done", "clean"


def main() -> None:
    lines = _Lines(sys.stdin.fileno())
    first = lines.next(None)
    if not first:
        return
    orders = json.loads(first)
    line = lines.next(LOAD_SECONDS)
    wait_seconds = RENEW_SECONDS
    while line is None:
        _lease(orders)
        if (line := lines.next(wait_seconds)) is None:
            wait_seconds = RENEW_SECONDS if _renewed(orders) else RETRY_SECONDS
    if line == DONE:
        return
    if line == CLEAN:
        orders["holder"] = 0
    _clean(orders)


class _Lines:
    """The lines from the pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""

    def next(self, seconds: float | None) -> str | None:
        """The next line; "" at the end of the file; None if neither arrives within `seconds`."""
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._descriptor], [], [], None if seconds is None else max(seconds, 0))
            if not ready:
                return None
            if not (chunk := os.read(self._descriptor, 65_536)):
                return ""
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()


def _lease(orders: dict[str, Any]) -> Any:
    sys.path += [path for path in orders["path"] if path not in sys.path]
    from pytest_redisq.servers.key_lease import KeyLease

    return KeyLease(orders["url"], orders["prefix"], registry=orders["registry"], token=orders["token"])


def _renewed(orders: dict[str, Any]) -> bool:
    try:
        _lease(orders).renew()
    except Exception:  # retried later, whatever the error is; no process is left to report it to
        return False
    return True


def _clean(orders: dict[str, Any]) -> None:
    lease = _lease(orders)
    deadline = time.monotonic() + REACH_SECONDS
    while True:
        try:
            _clean_for_good(lease, orders)
        except Exception:  # the server may be about to come back
            if time.monotonic() > deadline:
                return
            time.sleep(_POLL_SECONDS)
        else:
            return


def _clean_for_good(lease: Any, orders: dict[str, Any]) -> None:
    """Delete keys until none are found. Then look again, since children of the run may end later than the run."""
    for _ in range(ROUNDS):
        if not lease.clear():
            break
        time.sleep(_POLL_SECONDS)
    lease.give_back()
    for _ in range(ROUNDS):
        time.sleep(LATE_SECONDS)
        may_write = orders["holder"] and _may_write(orders["holder"], orders["group"])
        if not lease.clear() and not may_write:
            break


def _may_write(holder: int, holders_group: int) -> bool:
    """Whether the run's process still runs, or a process of its group that has outlived it.

    It is known only on an operating system with /proc. On others the run counts as ended.
    """
    reaper = os.getppid()
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if entry.isdecimal() and int(entry) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as stat:
                state, parent, group = stat.read().rpartition(b")")[2].split()[:3]
                ours = int(entry) == holder or (int(parent) == reaper and int(group) == holders_group)
                if ours and state not in (b"Z", b"X"):
                    return True
    return False


if __name__ == "__main__":
    main()
