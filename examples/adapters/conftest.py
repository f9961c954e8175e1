"""Of each library that is not installed, the test is not collected."""

from __future__ import annotations

from importlib.util import find_spec

LIBRARIES = ("arq", "celery", "dramatiq", "huey", "rq", "saq", "taskiq_redis")

collect_ignore = [f"test_{library}.py" for library in LIBRARIES if find_spec(library) is None]
