"""Decides when the pause of an actor ends: when every lease has expired, and the other actors have noticed it.

Law: a pause lasts `PAUSE_SECONDS`, or ends earlier, when all leases seen have expired twice and the other actors only
repeat steps. Repeated steps, such as polls and heartbeats, do not count against the step limit.
"""

from __future__ import annotations

import math
import re

#: The longest pause, in seconds of virtual time: longer than most leases.
PAUSE_SECONDS = 90.0
#: Repeated steps in a row after which nothing new is expected: when the leases have expired; if no lease was seen; and
#: if a lease does not expire (a key that lives for days may not be a lease).
_REPEATED_AFTER_LEASE = 60
_REPEATED_WITHOUT_LEASE = 300
_REPEATED_IN_LEASE = 3_000
#: Leases are rounded up to a multiple of this, in seconds, because the server's clock moves during an execution.
_GRAIN_SECONDS = 0.5
#: Numbers are ignored: a heartbeat's time or a counter alone is not new.
_NUMBER = re.compile(rb"[0-9]+")


class PauseMonitor:
    """Observes what the other actors do while at least one is paused."""

    def __init__(self) -> None:
        self._began = 0.0
        self._seen: set[tuple[int, tuple[bytes, ...], bytes]] = set()
        self._repeated = 0
        #: Steps that do not count against the limit of steps.
        self.uncounted: int = 0

    def begin(self, now: float) -> None:
        """Note that an actor is paused now, or that one continues while another is still paused."""
        self._began, self._repeated = now, 0
        self._seen.clear()

    def note(self, actor: int, args: tuple[bytes, ...], reply: bytes) -> None:
        """Note a command of another actor, or the end of a wait."""
        step = (actor, tuple(_NUMBER.sub(b"#", arg) for arg in args), _NUMBER.sub(b"#", reply))
        if step in self._seen:
            self._repeated += 1
            self.uncounted += 1
        else:
            self._seen.add(step)
            self._repeated = 0

    def is_enough(self, now: float, lease_seconds: float) -> bool:
        """Whether the pause can end. `lease_seconds`: the longest lease seen so far, 0 for none."""
        if not lease_seconds:
            return self._repeated >= _REPEATED_WITHOUT_LEASE
        leases_end = self._began + 2 * math.ceil(lease_seconds / _GRAIN_SECONDS) * _GRAIN_SECONDS
        return self._repeated >= (_REPEATED_AFTER_LEASE if now >= leases_end else _REPEATED_IN_LEASE)
