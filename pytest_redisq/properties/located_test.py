"""Places a test of the kit at the line of the user's code that made it, for pytest's reports, editors and CI."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

_PACKAGE = str(Path(__file__).parents[1])


def located(test: Callable[..., None]) -> FunctionType:
    """Returns `test` as a function called `test_property`, placed where the user's code calls the kit.

    `test`: a lambda on one line, so that its only line becomes the user's. pytest shows that line for a failure, and
    GitHub's annotations and editors lead there.
    """
    assert isinstance(test, FunctionType)
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    name = "test_property"
    code = test.__code__.replace(
        co_filename=frame.f_code.co_filename, co_firstlineno=frame.f_lineno, co_name=name, co_qualname=name
    )
    placed = FunctionType(code, test.__globals__, name, test.__defaults__, test.__closure__)
    placed.__module__ = frame.f_globals.get("__name__", test.__module__)
    placed.__qualname__ = name
    return placed
