"""A client that dies, or is cut off, at a chosen command: before the server sees it, or after it took effect.

It strikes whole functions with IO, such as `drain_to_file`; the stage does the same with logic without IO.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import redis

from pytest_redisq.explore import StepKind
from pytest_redisq.facade import Redisq
from tests.support import eventually


class Killed(BaseException):
    """The process is gone."""


class Fate:
    """The fault at command number `at` (from 0) of all connections. A dead process sends no more commands."""

    def __init__(self, at: int, mark: StepKind) -> None:
        self.at, self.mark = at, mark
        self.sent = 0
        self.struck = False
        self.dead = False

    def before(self) -> None:
        self.check()
        if self.sent == self.at and self.mark in (StepKind.KILL_BEFORE, StepKind.LOSE_REQUEST):
            self.strike()

    def after(self) -> None:
        """The reply has arrived, and has not been read."""
        self.check()
        self.sent += 1
        if self.sent == self.at + 1 and self.mark in (StepKind.KILL_AFTER, StepKind.LOSE_REPLY):
            self.strike()

    def strike(self) -> None:
        self.at, self.struck = -2, True  # once
        if self.mark in (StepKind.KILL_BEFORE, StepKind.KILL_AFTER):
            self.dead = True
        self.check()
        raise redis.ConnectionError("cut by the test")

    def check(self) -> None:
        if self.dead:
            raise Killed


@contextlib.contextmanager
def doomed(redisq: Redisq, fate: Fate) -> Iterator[redis.Redis]:
    """A client of the namespace that meets its `fate`. `Killed` ends the block, as the process would have ended.

    When the block ends the server has carried out all that was on its way: what a dead drainer had sent ahead, say.
    """
    client = redisq.address.client()
    base = client.connection_pool.connection_class
    ids: set[int] = set()

    def send_command(self: Any, *args: Any, **options: Any) -> None:
        if args[0] != "CLIENT ID":
            fate.before()
        self.counts = args[0] != "CLIENT ID"
        base.send_command(self, *args, **options)

    def read_response(self: Any, *args: Any, **options: Any) -> Any:
        counts, self.counts = getattr(self, "counts", None), None
        try:
            reply = base.read_response(self, *args, **options)
            if counts is False:
                ids.add(int(reply))
            return reply
        finally:
            if counts:
                fate.after()

    methods = {"send_command": send_command, "read_response": read_response}
    client.connection_pool.connection_class = type(base.__name__, (base,), methods)
    try:
        yield client
    except Killed:
        pass
    finally:
        client.close()
        # It sees the end of a connection after all that came by it.
        eventually(lambda: ids.isdisjoint(int(each["id"]) for each in redisq.client.client_list()), 10)
