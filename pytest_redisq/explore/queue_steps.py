"""Work on a queue as a generator of calls, with two drivers: one for threads and one for event loops."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias, TypeVar

_T = TypeVar("_T")


#: Yields calls on a queue, and is sent their results. `drive` makes the calls in a thread, `drive_async` in an event
#: loop.
QueueSteps: TypeAlias = Generator[Callable[[], Any], Any, _T]


def closing(end: Any, steps: QueueSteps[None]) -> QueueSteps[None]:
    """`steps`, and then the end's `close`. A generator that is abandoned does not close it: no driver would make the
    call.
    """
    __tracebackhide__ = True
    close = getattr(end, "close", None)
    closed = [close] if callable(close) else []
    try:
        yield from steps
    except GeneratorExit:
        raise
    except BaseException:
        yield from closed
        raise
    yield from closed


async def _awaited(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


async def _given(answer: Any) -> Any:
    if not inspect.isawaitable(answer):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    raise TypeError(
        f"{answer!r} is awaitable, but this queue's functions are called from a thread. Pass is_async=True for it."
    )


def drive(steps: QueueSteps[None]) -> None:
    """Make the calls in a thread. Nothing is awaited, so the coroutine ends in its first step."""
    __tracebackhide__ = True
    with contextlib.suppress(StopIteration):
        drive_async(steps, _given).send(None)


async def drive_async(steps: QueueSteps[None], answer_of: Callable[[Any], Coroutine[Any, Any, Any]] = _awaited) -> None:
    """Make the calls in an event loop. `answer_of` turns what a call returns into its result."""
    __tracebackhide__ = True
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            act = steps.throw(error) if error else steps.send(answer)
        except StopIteration:
            return
        finally:
            error = None
        try:
            answer = await answer_of(act())
        except BaseException as raised:
            error = raised
