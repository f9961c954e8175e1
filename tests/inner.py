"""pytest runs inside tests: a process of their own, with this plugin and no other but those that are named."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support import local_kind

ONE_TEST = "def test_one(redisq_client):\n    assert redisq_client.ping()\n\n"

#: What Python 3.14 says of redis-py's asyncio client; not ours to mend.
_NOT_OURS = "ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning"

#: Tells at the end whether the client library was ever imported; without a server it must not be.
_TELLS = """
import sys

def pytest_unconfigure(config):
    print()
    print("redis imported:", "redis" in sys.modules)
"""


class InnerRuns:
    """Makes files in a folder of its own and runs pytest there. Warnings are errors."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        monkeypatch.syspath_prepend(str(pytester.path))
        if not os.environ.get("REDISQ_SERVER"):
            monkeypatch.setenv("REDISQ_SERVER", local_kind())
        self.file("tells_redis.py", _TELLS)

    @property
    def path(self) -> Path:
        return self._pytester.path

    def file(self, name: str, text: str) -> Path:
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        return path

    def run(
        self,
        *options: str,
        plugins: tuple[str, ...] = (),
        environ: dict[str, str | None] | None = None,
        seconds: float = 100.0,
    ) -> pytest.RunResult:
        """Run it, for so many seconds at most; a value None in `environ` is a variable that is not set."""
        with self._monkeypatch.context() as patch:
            # With CI set, pytest says more in its summary.
            for name, value in {"CI": None, **(environ or {})}.items():
                patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
            loaded = [word for plugin in ("pytest_redisq.plugin", "tells_redis", *plugins) for word in ("-p", plugin)]
            words = [*loaded, "-W", "error", "-W", _NOT_OURS, *options]
            return self._pytester.runpytest_subprocess(*words, timeout=seconds)

    def normal(self, text: str) -> str:
        """`text` without what differs from run to run and from machine to machine."""
        text = text.replace(str(self.path), "PATH")
        text = re.sub(r"\S*pytest_redisq/plugin\.py:\d+", "pytest_redisq/plugin.py:LINE", text)
        return re.sub(r"\d+\.\d+s", "TIME", text).rstrip() + "\n"
