"""`locust -f FILE` without `redisq load`: a signal ends the run in good order, and no pass is left over."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from pytest_redisq.load.locust_process import locustfile
from pytest_redisq.servers import Server
from tests.support import eventually


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "moment", "words", "number"),
    [
        ("drain", "rpush", [], signal.SIGINT),
        ("drain", "lpop", ["-t", "10m"], signal.SIGTERM),
        ("drain", "get", [], signal.SIGINT),
        ("readers", "get", [], signal.SIGINT),
    ],
)
def test_a_signal_is_told_and_leaves_exit_status_3(
    server: Server, saboteur: Callable[[str], str], name: str, moment: str, words: list[str], number: int
) -> None:
    """In a run of a scenario, also where it only begins (GET), and of users without one (readers)."""
    file = saboteur(name) if name == "readers" else str(locustfile(name))
    with server.client() as client:
        client.config_resetstat()
        command = [sys.executable, "-m", "locust", "-f", file, "--headless", *words]
        environment = os.environ | {"REDIS_URL": server.url}
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        try:
            eventually(lambda: f"cmdstat_{moment}" in client.info("commandstats"), 60)
            process.send_signal(number)
            told = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 3, told
    # The signal may meet the engine while it begins.
    assert re.search(r"[Tt]he run (was (interrupted|ended by a signal)|could not be judged)", told), told
