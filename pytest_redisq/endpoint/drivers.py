"""Carry out the steps of a workload: where calls block (a thread, a process, a greenlet), or in an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pytest_redisq.endpoint.workload import Operation, Steps


def drive(steps: Steps, perform: Callable[[Operation], Any]) -> None:
    """Do what `steps` yields; `perform` blocks until it has been done. Raises what the steps raise."""
    __tracebackhide__ = True

    async def at_once(operation: Operation) -> Any:
        __tracebackhide__ = True
        return perform(operation)

    with suppress(StopIteration):  # nothing is awaited, so that the coroutine ends in its first step
        drive_async(steps, at_once).send(None)


async def drive_async(steps: Steps, perform: Callable[[Operation], Awaitable[Any]]) -> None:
    """Do what `steps` yields in an event loop. Raises what the steps raise."""
    __tracebackhide__ = True
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
