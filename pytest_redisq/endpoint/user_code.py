"""What to show of an error from the user's code: its own frames. Those of redisq and of libraries are left out."""

from __future__ import annotations

import inspect
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from weakref import WeakSet

from pytest_redisq.errors import QueueMisuseError

#: pytest shows none of these frames: a crash is to show the user's own line.
__tracebackhide__ = True

_PACKAGE = str(Path(__file__).parents[1])
_LIBRARIES = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]

#: What redisq passes to each method of a queue.
_PARAMETERS = {"put": "body", "get": "timeout_seconds", "ack": "delivery"}
#: What is missing if a method does not take it.
_LACKING = {"put": "no body", "get": "no timeout", "ack": "no delivery"}


def place_of(error: BaseException) -> str:
    """Returns the innermost line of the user's code that `error` passed, as `FILE:LINE in FUNCTION`.

    If it passed none, the innermost line of all.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "no traceback"
    return _place((_users_frames(frames) or frames)[-1])


def place_of_frame(frame: FrameType) -> str:
    """Returns where a thread is, as `FILE:LINE in FUNCTION: CODE`: the innermost line of the user's code, or of all."""
    frames = traceback.extract_stack(frame)
    innermost = (_users_frames(frames) or frames)[-1]
    return f"{_place(innermost)}: {innermost.line}"


def error_words(error: BaseException) -> str:
    """Returns the type and the text of `error`, and where in the user's code it was raised, if it passed any."""
    frames = _users_frames(traceback.extract_tb(error.__traceback__))
    return f"{type(error).__name__}: {error}{f' ({_place(frames[-1])})' if frames else ''}"


def crash_words(error: BaseException) -> str:
    """Returns `error_words`, and below the user's own frames with their lines.

    The whole traceback follows where the error passed no code of the user's, unless the text says all.
    """
    if isinstance(error, QueueMisuseError):
        return f"TypeError: {error}"
    frames = _users_frames(traceback.extract_tb(error.__traceback__))
    shown = traceback.format_list(frames) if frames else traceback.format_exception(error)
    return f"{error_words(error)}\n{''.join(shown)}".rstrip()


def _users_frames(frames: traceback.StackSummary) -> list[traceback.FrameSummary]:
    return [frame for frame in frames if not frame.filename.startswith((_PACKAGE, "<", *_LIBRARIES))]


def _place(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"


_checked: WeakSet[type] = WeakSet()


def check_methods(kind: type) -> None:
    """Check that the methods of a queue's class can be called as redisq calls them.

    Errors: TypeError, in words, with the call and the method that was found.
    """
    if kind in _checked:
        return
    for verb, parameter in _PARAMETERS.items():
        method = inspect.getattr_static(kind, verb, None)
        if inspect.isfunction(method):
            _check_call(method, f"{kind.__name__}.{verb}", ("self", parameter), _LACKING[verb])
    _checked.add(kind)


def check_function(function: Callable[..., Any], *, is_producer: bool) -> None:
    """Check that one function of a pair can be called as redisq calls it. Errors as for `check_methods`."""
    verb = "put" if is_producer else "get"
    name = getattr(function, "__name__", repr(function))
    _check_call(function, name, ("client", _PARAMETERS[verb]), _LACKING[verb])


def _check_call(function: Callable[..., Any], name: str, parameters: tuple[str, ...], lacking: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function that is written in C
        return
    try:
        signature.bind(*parameters)
    except TypeError as error:
        called = ", ".join(parameter for parameter in parameters if parameter != "self")
        few = len(signature.parameters) < len(parameters)
        why = f"takes {lacking}" if few else f"cannot be called so: {error}"
        short = name.rpartition(".")[2]
        raise QueueMisuseError(
            f"{name}() {why}: redisq calls {short}({called}), and found {short}{signature}. "
            f"Write: def {short}({', '.join(parameters)})."
        ) from None
