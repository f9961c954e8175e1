"""Reads the chunks of a claim ahead: each is requested while the caller handles the one before it.

Law: only `commit` removes elements from a claim. So reading ahead loses nothing after any failure: elements that were
requested and not committed are read again. (`at-most-once` does not read ahead: a crash would lose twice as much.)
"""

from __future__ import annotations

import contextlib
from collections import deque

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pytest_redisq.queues.connection import PendingReply, QueueConnection
from pytest_redisq.queues.draining import Claim, Drainer
from pytest_redisq.queues.steps import run

#: Chunks requested and not yet read: one in transit, and one in the server.
_AHEAD = 2


class ReadAhead:
    """Reads `claim` from its head, through `connection`. No other code may use `connection` meanwhile."""

    def __init__(self, drainer: Drainer, claim: Claim, connection: QueueConnection) -> None:
        self._drainer = drainer
        self._claim = claim
        self._connection = connection
        self._read = 0  # elements read and not committed
        self._asked: deque[tuple[PendingReply, int]] = deque()  # with the number of elements in each

    def read(self) -> list[bytes]:
        """The next chunk; empty at the end."""
        if self._claim.length <= self._read:
            return []
        self._ask()
        elements = self._received() or run(self._drainer.read(self._claim, skip=self._read), self._connection.call)
        self._read += len(elements)
        return elements

    def commit(self, done: int, state: str = "") -> None:
        """Remove the first `done` elements read since the last commit: see `Drainer.commit`."""
        self._read -= done
        if not self._committed(done, state):
            self._asked.clear()
            # The script trims to a length, so a repeated commit has no effect.
            run(self._drainer.commit(self._claim, done, state), self._connection.call)

    def _received(self) -> list[bytes]:
        """The chunk that was requested first; empty if its reply was lost."""
        if self._asked:
            ticket, count = self._asked.popleft()
            with contextlib.suppress(RedisConnectionError, RedisTimeoutError):
                return self._drainer.accept(self._claim, self._connection.receive(ticket), count)
            self._asked.clear()
        return []

    def _committed(self, done: int, state: str) -> bool:
        """Commit; returns whether the commit is known to have happened.

        The next chunks are requested before the reply is read, so that the server is not idle meanwhile.
        """
        claim, length = self._claim, self._claim.length
        try:
            ticket = self._connection.send(self._drainer.committing(claim, done, state))
            claim.length = length - done
            self._ask()
            self._drainer.check_kept(self._connection.receive(ticket))
        except (RedisConnectionError, RedisTimeoutError, NoScriptError):
            claim.length = length
            return False
        claim.state = state
        return True

    def _ask(self) -> None:
        while len(self._asked) < _AHEAD:
            skip = self._read + sum(count for _, count in self._asked)
            if skip >= self._claim.length:
                return
            reading = self._drainer.reading(self._claim, skip=skip)
            try:
                self._asked.append((self._connection.send(reading.command), reading.elements))
            except (RedisConnectionError, RedisTimeoutError):
                self._asked.clear()  # the connection is gone, and the replies with it
                return
