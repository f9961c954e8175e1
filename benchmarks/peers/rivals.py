"""Other load tools on the same server: their operations per second, and per second of their CPU time."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pytest_redisq.servers import Server

CONNECTIONS, PAYLOAD = 50, 100


class Speed(NamedTuple):
    """Operations per second, and per CPU second; 0 if that is unknown."""

    rate: float
    per_cpu_second: float = 0.0


def redis_benchmark(server: Server, words: Sequence[str], pipeline: int, operations: int) -> Speed:
    """One thread."""
    where = urlsplit(server.url)
    command = ["redis-benchmark", "-h", str(where.hostname), "-p", str(where.port), "-a", str(where.password)]
    command += ["-c", str(CONNECTIONS), "-n", str(operations), "-P", str(pipeline), "--csv", *words]
    told, cpu_seconds = _timed(command)
    return Speed(float(list(csv.DictReader(io.StringIO(told)))[-1]["rps"]), operations / cpu_seconds)


def memtier(server: Server, words: Sequence[str], pipeline: int, seconds: float) -> Speed:
    """One thread."""
    where = urlsplit(server.url)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "told.json"
        command = ["memtier_benchmark", "-h", str(where.hostname), "-p", str(where.port), "-a", str(where.password)]
        command += ["-t", "1", "-c", str(CONNECTIONS), "--pipeline", str(pipeline), "--test-time", f"{seconds:.0f}"]
        command += ["--hide-histogram", "--json-out-file", str(file), "--command", " ".join(words)]
        _, cpu_seconds = _timed(command)
        totals = json.loads(file.read_text())["ALL STATS"]["Totals"]
    return Speed(float(totals["Ops/sec"]), float(totals["Count"]) / cpu_seconds)


def resp_benchmark(server: Server, words: Sequence[str], pipeline: int, seconds: float) -> Speed:
    """One core."""
    where = urlsplit(server.url)
    command = [_resp_benchmark(), "-h", str(where.hostname), "-p", str(where.port), "-a", str(where.password)]
    command += ["-c", str(CONNECTIONS), "-P", str(pipeline), "-s", f"{seconds:.0f}", "--cores", "0", " ".join(words)]
    told, cpu_seconds = _timed(command)
    rates = [float(each) for each in re.findall(r"qps: ([\d.]+)", told.lower())]
    return Speed(rates[-1], rates[-1] * seconds / cpu_seconds)


def plain_locust(server: Server, words: Sequence[str], seconds: float) -> Speed:
    """Locust with `redis.Redis`. Its time includes its own start."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures"
        command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("plain_locust.py")), "--headless"]
        command += ["-u", str(CONNECTIONS), "-r", str(CONNECTIONS), "-t", f"{seconds + 3:.0f}s"]
        command += ["--json-file", str(file), "--loglevel", "ERROR"]
        environment = os.environ | {"REDIS_URL": server.url, "LOCUST_COMMAND": " ".join(words)}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        [figures] = json.loads(Path(f"{file}.json").read_text())
    return Speed(figures["num_requests"] / (figures["last_request_timestamp"] - figures["start_time"]))


def there(name: str) -> bool:
    """Whether the tool `name` is on this machine."""
    return bool(_resp_benchmark() if name == "resp-benchmark" else shutil.which(name))


def _resp_benchmark() -> str:
    return shutil.which("resp-benchmark", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or ""


def _timed(command: Sequence[str]) -> tuple[str, float]:
    before = os.times()
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    after = os.times()
    burnt = after.children_user + after.children_system - before.children_user - before.children_system
    return told.stdout + told.stderr, burnt
