"""Makes one Ctrl-C enough, at any moment.

Python raises KeyboardInterrupt between any two instructions of the main thread. It can be lost in two ways:

- Inside a destructor or a callback of a weak reference or of the garbage collector, Python prints the exception and
  drops it.
- Cleanup code may replace it by an error about work that the interrupt has left half done.
"""

from __future__ import annotations

import _thread
import contextlib
import dis
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, TracebackType

#: Seconds between a lost interrupt and the next one: the destructor should have ended by then.
_AGAIN_SECONDS = 0.001
#: Seconds between two more, and the most of them. A signal that comes just before the main thread waits does not end
#: that wait.
_STILL_SECONDS, _TIMES = 0.1, 20
#: A second Ctrl-C, more than so many seconds after the first, takes effect at once.
_PATIENCE_SECONDS = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: How many signals the main thread has taken by a handler of this module.
_heard = 0


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Delay Ctrl-C, and SIGTERM and SIGHUP if Python code handles them, until the block ends.

    For actions that an exception must not stop in the middle: starting a process that has no owner yet, or using a lock
    of `threading.Condition`, which could stay locked for good.

    The block must be short. Whatever it creates must have an owner when it ends. If the block hangs, a second signal,
    more than a second after the first, takes effect at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {int(number): handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    process, heard = os.getpid(), list[int]()
    first, over = 0.0, False

    def hear(number: int, frame: FrameType | None) -> None:
        global _heard
        nonlocal first, over
        _heard += 1
        first = first or time.monotonic()
        heard.append(number)
        over = over or time.monotonic() - first > _PATIENCE_SECONDS
        # Also where the block has ended, and an exception kept the handlers from being restored; and in a child that
        # was forked in the block, for which it does not end.
        if over or os.getpid() != process:
            handlers[number](number, frame)

    missed: list[int] = []
    try:
        try:
            for number in handlers:
                signal.signal(number, hear)
            yield
        finally:
            missed, over = heard[:1], True
            _handle_by(handlers)
    except BaseException:
        _handle_by(handlers)  # Ctrl-C may have come in the midst of it
        _raise(missed)
        raise
    _raise(missed)


def _handle_by(handlers: Mapping[int, Callable[[int, FrameType | None], object]]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _raise(numbers: list[int]) -> None:
    for number in numbers:
        signal.raise_signal(number)


def start(thread: threading.Thread) -> None:
    """Start it in one piece: Ctrl-C meanwhile could leave it waiting for `start` for ever."""
    with deferred():
        thread.start()


@contextlib.contextmanager
def cleared_up() -> Iterator[contextlib.ExitStack]:
    """An ExitStack whose callbacks are all called at the block's end, with Ctrl-C delayed until they have returned.

    The callbacks must return in bounded time. None of them can suppress the block's error.
    """
    held = contextlib.ExitStack()
    try:
        try:
            yield held
        except BaseException as error:
            with deferred():
                held.__exit__(type(error), error, error.__traceback__)
            raise
        with deferred():
            held.close()
    finally:
        held.close()  # of callbacks that are left, because Ctrl-C came just before it was delayed


@contextlib.contextmanager
def repeated_where_lost() -> Iterator[None]:
    """During the block, repeat an interrupt that the interpreter has dropped, until it takes effect."""
    complain = sys.unraisablehook

    def unless_interrupted(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # Not threading.Thread: it takes locks that the interrupted code may hold.
            _thread.start_new_thread(_interrupt_again, (_TIMES if _notes_the_next() else 1,))
        else:
            complain(unraisable)

    sys.unraisablehook = unless_interrupted
    try:
        yield
    finally:
        if sys.unraisablehook is unless_interrupted:
            sys.unraisablehook = complain


def _notes_the_next() -> bool:
    """Whether the next interrupt that the main thread takes will be counted: not if others handle it."""

    def hear(number: int, frame: FrameType | None) -> None:
        global _heard
        _heard += 1
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    signal.signal(signal.SIGINT, hear)
    return True


def _interrupt_again(times: int) -> None:
    time.sleep(_AGAIN_SECONDS)
    before = _heard
    for _ in range(times):
        # Not _thread.interrupt_main: it does not interrupt a system call in which the main thread may wait.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(_STILL_SECONDS)
        if _heard != before:
            return


@contextlib.contextmanager
def not_replaced() -> Iterator[None]:
    """Raise the interrupt if cleanup code raised an error while the interrupt was unwinding the block."""
    __tracebackhide__ = True
    try:
        yield
    except Exception as error:
        if interrupt := interrupt_behind(error):
            raise interrupt from None
        raise


def interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The Ctrl-C during whose unwinding `error` was raised; None if none, or only a `raise KeyboardInterrupt`."""
    behind = error.__context__
    while behind is not None:
        if isinstance(behind, KeyboardInterrupt) and _by_a_signal(behind.__traceback__):
            return behind
        behind = behind.__context__
    return None


def is_timeout_of_a_test(error: BaseException) -> bool:
    """Whether pytest-timeout raised `error`, in a signal handler, because the whole test has taken too long."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") == "pytest_timeout":
            return True
        traceback = traceback.tb_next
    return False


def _by_a_signal(traceback: TracebackType | None) -> bool:
    """Whether a signal interrupted the innermost frame: it did not execute `raise`, except in asyncio's runner."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    raises = dis.opname[code.co_code[traceback.tb_lasti]].startswith(("RAISE", "RERAISE"))
    return not raises or traceback.tb_frame.f_globals.get("__name__") == "asyncio.runners"


def give_lines(error: BaseException) -> None:
    """Give each entry of the tracebacks of `error`, its causes and contexts a line number.

    An interrupt may arrive between two instructions that belong to no line. pytest crashes on such an entry, with a
    traceback of its own and exit status 1.
    """
    seen: list[BaseException] = []
    behind: BaseException | None = error
    while behind is not None and behind not in seen:
        seen.append(behind)
        behind.__traceback__ = _with_lines(behind.__traceback__)
        behind = behind.__cause__ or behind.__context__


def _with_lines(traceback: TracebackType | None) -> TracebackType | None:
    entries: list[TracebackType] = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    for entry in reversed(entries):
        line: int | None = entry.tb_lineno  # may be None, whatever its declared type says
        if line is None:
            code = entry.tb_frame.f_code
            before = [number for start, _, number in code.co_lines() if number and start <= entry.tb_lasti]
            line = before[-1] if before else code.co_firstlineno
        traceback = TracebackType(traceback, entry.tb_frame, entry.tb_lasti, line)
    return traceback
