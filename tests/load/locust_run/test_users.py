"""What Locust is told by a locustfile of somebody's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pytest_redisq.servers import Server


def test_each_command_is_an_event_with_name_latency_bytes_and_exception(
    server: Server, saboteur: Callable[[str], str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "locust", "-f", saboteur("own_users"), "--headless", "-t", "60s"]
    command += ["--json-file", str(tmp_path / "told"), "--loglevel", "ERROR", "--only-summary"]
    subprocess.run(command, env=os.environ | {"REDIS_URL": server.url}, capture_output=True, timeout=90, check=False)
    entries = {(each["method"], each["name"]): each for each in json.loads((tmp_path / "told.json").read_text())}
    key = "redisq:own-users"
    assert set(entries) == {
        ("SET", "page"), ("GET", key), ("RPUSH", key), ("DEL", key), ("RPUSH", "jobs"), ("BLPOP", "jobs"),
    }  # fmt: skip
    assert entries["GET", key]["total_content_length"] == 1000
    assert [each["num_failures"] for each in entries.values() if each["num_failures"]] == [1]
    assert entries["RPUSH", key]["num_failures"] == 1
    assert all(0 < each["total_response_time"] < 250 for each in entries.values())
