"""Keeps stdout and stderr usable when their reader has ended: `redisq load … | head` exits by the verdict."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any


class _DroppingStream(io.FileIO):
    """Writes to a descriptor, and to nowhere once that has failed: its reader is gone, or the disk is full."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def outlive_readers() -> None:
    """From now on an error of stdout or stderr drops what is printed there, and raises nothing.

    A descriptor below 3 that is closed is opened on nothing: a file of the run would get its number, and our words.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with contextlib.suppress(AttributeError, OSError, ValueError):  # a test's own stream, which has no descriptor
            raw = _DroppingStream(stream.fileno(), "w", closefd=False)
            wrapper = io.TextIOWrapper(
                io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True
            )
            setattr(sys, name, wrapper)
