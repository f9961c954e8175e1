"""Shared by tests: waiting for a condition, and the servers that are available on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import pytest

from pytest_redisq.options import Settings
from pytest_redisq.servers.backend import ServerKind
from pytest_redisq.servers.choose import AUTO, backend

T = TypeVar("T")

#: The kinds of server that we start ourselves; each is also the marker of the tests that need it.
KINDS = AUTO

#: Those of them that are a program of this machine: a test that wants no kind in particular takes the first there is.
LOCAL: tuple[ServerKind, ...] = ("process", "embedded")

#: The image of tests that want any image at all; a tox environment chooses another.
IMAGE = os.environ.get("REDISQ_IMAGE") or "redisq/redis:8.0"


def eventually(predicate: Callable[[], T], seconds: float = 20.0, every_seconds: float = 0.005) -> T:
    """The first true value of `predicate`, asked again and again; AssertionError after `seconds` without one."""
    deadline = time.monotonic() + seconds
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {predicate.__qualname__}() is still {value!r}")
        time.sleep(every_seconds)
    return value


def in_time(seconds: float, action: Callable[[], T]) -> T:
    """The result of `action`. AssertionError if it takes longer three times: a busy machine may stall one attempt."""
    for _ in range(3):
        began = time.monotonic()
        value = action()
        taken = time.monotonic() - began
        if taken < seconds:
            return value
    raise AssertionError(f"three times not within {seconds} s: the last time it took {taken:.2f} s")


@cache
def missing(kind: ServerKind) -> str:
    """Why a server of this kind cannot be had here, and what would help; empty if it can."""
    why = backend(kind).missing(Settings(server=kind, image=IMAGE if kind == "docker" else None))
    cure = " (on Debian, .ci/images builds images; REDISQ_IMAGE may name one that you have)" if kind == "docker" else ""
    return f"{why}{cure}" if why else ""


def local_kind() -> ServerKind:
    """The kind in REDISQ_SERVER if it is local, otherwise the first local kind that is available; skips if none is."""
    asked = [kind for kind in LOCAL if kind == os.environ.get("REDISQ_SERVER")]
    for kind in asked or LOCAL:
        if not missing(kind):
            return kind
    why_not = "; ".join(missing(kind) for kind in asked or LOCAL)
    if os.environ.get("CI"):
        pytest.fail(f"In CI nothing is skipped, and this needs a server of this machine: {why_not}", pytrace=False)
    pytest.skip(f"NOT TESTED on a server of this machine: {why_not}")


def local(**wishes: Any) -> Settings:
    """The settings of a server of this machine, for tests to which any will do."""
    return Settings(server=local_kind(), **wishes)
