"""Finds a consumer whose `get` returns None at once, again and again: time cannot pass then, and no schedule ends."""

from __future__ import annotations

from pytest_redisq.errors import RedisqError

#: So many gets in vain between two steps mean that the consumer only spins.
_MOST = 1_000


class IdleGets:
    """Counts the gets in vain of one consumer since the schedule's last step."""

    def __init__(self) -> None:
        self._steps = -1
        self._gets = 0

    def note(self, steps: int) -> None:
        """A get came back with nothing. Raises `RedisqError` if too many did.

        `steps`: the number of steps so far.
        """
        self._gets = self._gets + 1 if steps == self._steps else 1
        self._steps = steps
        if self._gets == _MOST:
            raise RedisqError(
                f"get() returned None {_MOST:,} times in a row, and neither sent a command nor waited, so the schedule "
                "cannot go on. What to do: let get() ask the server, or wait for timeout_seconds (by time.sleep)."
            )
