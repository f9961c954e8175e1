"""Carry out the steps of a workload: where calls block (a thread, a process, a greenlet), or in an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pytest_redisq.endpoint.workload import Operation, Steps

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True


def drive(steps: Steps, perform: Callable[[Operation], Any]) -> None:
    """Do what `steps` yields; `perform` blocks until it has been done. Raises what the steps raise."""

    async def at_once(operation: Operation) -> Any:
        return perform(operation)

    with suppress(StopIteration):  # nothing is awaited, so that the coroutine ends in its first step
        drive_async(steps, at_once).send(None)


async def drive_async(steps: Steps, perform: Callable[[Operation], Awaitable[Any]]) -> None:
    """Do what `steps` yields in an event loop. Raises what the steps raise."""
    reply: Any = None
    error: Exception | None = None
    while True:
        try:
            operation = steps.send(reply) if error is None else steps.throw(error)
        except StopIteration:
            return
        reply, error = None, None
        try:
            reply = await perform(operation)
        except Exception as raised:
            error = raised
