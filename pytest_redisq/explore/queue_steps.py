"""What is to be done on a queue as a generator, and the two drivers of it: in a thread, and in an event loop."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias, TypeVar

_T = TypeVar("_T")


#: What is to be done on a queue, yielded by those who work with it, and what comes of it, sent back: `drive` does it
#: in a thread, `drive_async` in an event loop.
QueueSteps: TypeAlias = Generator[Callable[[], Any], Any, _T]


def closing(end: Any, steps: QueueSteps[None]) -> QueueSteps[None]:
    """`steps`, after which the end is closed; but not where they are left lying and nobody could do it."""
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
    raise TypeError(f"{answer!r} is to be awaited, and nobody would: say is_async=True of this queue.")


def drive(steps: QueueSteps[None]) -> None:
    """In a thread: as nothing is ever awaited, the first step of the coroutine is all of it."""
    __tracebackhide__ = True
    with contextlib.suppress(StopIteration):
        drive_async(steps, _given).send(None)


async def drive_async(steps: QueueSteps[None], answer_of: Callable[[Any], Coroutine[Any, Any, Any]] = _awaited) -> None:
    """`answer_of` makes an answer of what an act gives."""
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
