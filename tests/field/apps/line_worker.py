"""What a library's worker needs to be a consumer command: lines for its jobs and its idle times, and an end.

See `pytest_redisq.endpoint.subprocess_workers` for the protocol.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time

#: When a job was done last.
_last = [time.monotonic()]
_lock = threading.Lock()
#: The standard output as it was given: what the library prints there goes to standard error.
_lines = os.fdopen(os.dup(1), "w")


def received(body: str) -> None:
    """A job was done."""
    _say(body)
    _last[0] = time.monotonic()


def attend(idle_seconds: float) -> None:
    """Say that no job came for `idle_seconds`, as often as that is so; end the process when its input ends."""
    os.dup2(2, 1)
    threading.Thread(target=_tell_idle, args=(idle_seconds,), daemon=True).start()
    threading.Thread(target=_await_end, daemon=True).start()


def _tell_idle(idle_seconds: float) -> None:
    while True:
        time.sleep(0.05)
        if time.monotonic() - _last[0] > idle_seconds:
            _say(None)
            time.sleep(0.2)


def _say(body: str | None) -> None:
    with _lock:
        print(json.dumps(body), file=_lines, flush=True)


def _await_end() -> None:
    while os.read(0, 4096):  # not by sys.stdin, whose lock would not be free at the end of the process
        pass
    os.kill(os.getpid(), signal.SIGTERM)
