"""The chunks of a claim, each asked for while the one before it is read and dealt with.

Law: a claim loses only what `commit` names, so reading ahead loses nothing, whatever breaks: what was asked for and not
committed is read again. (A destructive pop read ahead would double what a crash loses; `at-most-once` does not.)
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

#: Chunks asked for and not yet read: one on its way here, one that the server is working on.
_AHEAD = 2


class ReadAhead:
    """Reads `claim` from its head, through `wire`, which no other code may use meanwhile."""

    def __init__(self, drainer: Drainer, claim: Claim, wire: QueueConnection) -> None:
        self._drainer = drainer
        self._claim = claim
        self._wire = wire
        self._read = 0  # elements read and not committed
        self._asked: deque[tuple[PendingReply, int]] = deque()  # with how many elements each is to bring

    def read(self) -> list[bytes]:
        """The next chunk; empty at the end."""
        if self._claim.length <= self._read:
            return []
        self._ask()
        elements = self._received() or run(self._drainer.read(self._claim, skip=self._read), self._wire.call)
        self._read += len(elements)
        return elements

    def commit(self, done: int, state: str = "") -> None:
        """The first `done` elements read since the last commit have been dealt with: see `Drainer.commit`."""
        self._read -= done
        if not self._committed(done, state):
            self._asked.clear()
            # To a length, so that it does not matter whether it has been done already.
            run(self._drainer.commit(self._claim, done, state), self._wire.call)

    def _received(self) -> list[bytes]:
        """The chunk that was asked for first; empty if it was not to be had."""
        if self._asked:
            ticket, count = self._asked.popleft()
            with contextlib.suppress(RedisConnectionError, RedisTimeoutError):
                elements = self._drainer.accept(self._claim, self._wire.receive(ticket))
                if len(elements) == count:
                    return elements
            self._asked.clear()
        return []

    def _committed(self, done: int, state: str) -> bool:
        """Whether a commit is known to be done. The chunks after it are asked for before its reply is read, so that the
        server has work meanwhile.
        """
        claim, length = self._claim, self._claim.length
        try:
            ticket = self._wire.send(self._drainer.committing(claim, done, state))
            claim.length = length - done
            self._ask()
            self._drainer.check_kept(self._wire.receive(ticket))
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
                self._asked.append((self._wire.send(reading.command), reading.elements))
            except (RedisConnectionError, RedisTimeoutError):
                self._asked.clear()  # it is gone with the connection
                return
