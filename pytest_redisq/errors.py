"""The errors that a caller may want to catch. Misuse raises `TypeError` or `ValueError` instead.

Law: every message says what happened, where, and what to do next.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class RedisqError(Exception):
    """Base of every error below; its text is written for the person who reads it, without a traceback."""


class ServerError(RedisqError):
    """A server could not be had, died, or cannot do what was asked of it; the text ends with its last log lines."""


class DrainHeldError(RedisqError):
    """A drain cannot begin, as another drain writes to its file, or may do so.

    `held`: the `UnfinishedDrain`s of the list, as far as they were asked for.
    """

    held: tuple[Any, ...] = ()


class DeliveryError(AssertionError):
    """A contract was broken, or could not be judged. An `AssertionError`, so that pytest reports it as a failure.

    `history` is the `History` that was judged, `bodies` those of the messages that broke the contract, where known.
    """

    def __init__(self, text: str, *, history: object = None, bodies: frozenset[bytes] = frozenset()) -> None:
        super().__init__(text)
        self.history = history
        self.bodies = bodies


class ScheduleError(AssertionError):
    """Some schedule makes the scenario fail; the text shows the shortest that was found, and how to run it again.

    `schedule` is that one, as it is written, `picture` the file in which it is drawn, if it is. `schedule` is empty
    where the exploration proves nothing: the text then says why.
    """

    def __init__(self, text: str, *, schedule: str = "", picture: Path | None = None) -> None:
        super().__init__(text)
        self.schedule = schedule
        self.picture = picture


class QueueMisuseError(TypeError):
    """A queue does not do what redisq asks of it. The text says all, so that no traceback is shown with it."""


class RedisqUnjudgedWarning(UserWarning):
    """A test made a run and judged it by no contract. With `-W error` such a test fails."""


class TrafficError(RedisqError):
    """A run of producers and consumers could not be carried out (a worker crashed, the deadline passed)."""


class HistoryError(RedisqError):
    """A file that should hold a history cannot be read as one; the text names file and line."""
