"""Skips the collection of tests whose library is not installed."""

from __future__ import annotations

from importlib.util import find_spec

LIBRARIES = ("arq", "celery", "dramatiq", "huey", "rq", "saq", "taskiq_redis")

collect_ignore = [f"test_{library}.py" for library in LIBRARIES if find_spec(library) is None]
