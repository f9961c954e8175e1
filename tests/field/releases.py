"""Which releases of a library have a bug, and what is asked of an exploration on the release that is installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest
import redis

from pytest_redisq.explore import Exploration, Failure

#: What is explored on every release before it is said to hold; the broken ones fail within as many.
SCHEDULES = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A bug of `library` that the release `broken` has and the release `fixed` (None: no release yet) has not."""

    library: str
    broken: str
    fixed: str | None

    @property
    def installed(self) -> str:
        """The release under test."""
        return version(self.library)

    @property
    def is_concerned(self) -> bool:
        """Whether the installed release is one of the two."""
        return self.installed in (self.broken, self.fixed)

    def judge(self, explored: Exploration) -> Failure | None:
        """The failure that the broken release must show; None for the fixed release, which must not show any."""
        if self.installed == self.fixed:
            explored.verify()
            return None
        assert explored.failure, f"{self.library} {self.installed}: {explored}"
        print(f"\n{self.library} {self.installed}:", explored)
        return explored.failure


def concerns(bug: Bug) -> pytest.MarkDecorator:
    """Only on the releases that the bug is about: other environments have others."""
    reason = f"about {bug.library} {bug.broken} and {bug.fixed or 'no fixed release'}"
    return pytest.mark.skipif(not bug.is_concerned, reason=f"{reason}; installed is {bug.installed}")


def place(url: str) -> dict[str, Any]:
    """A URL as redis-py's arguments `host`, `port` and so on.

    Most programs make their client of these, and it matters: redis-py 8 retries by default with them, and with
    `from_url` it does not.
    """
    return dict(redis.connection.parse_url(url))


def connect(url: str) -> redis.Redis:
    """A client as most programs make it."""
    return redis.Redis(**place(url))
