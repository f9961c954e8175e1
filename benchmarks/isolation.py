"""The cost of an empty namespace for each test: at most 1.2 times a bare client and FLUSHDB.

    python benchmarks/isolation.py [--tests 500] [--rounds 5]

Whole pytest runs of the same tests (SET and GET) with three fixtures, in turns: `redisq_client`; a bare one (one
server by popen, one client, FLUSHDB before each test); and pytest-redis' own, if it is installed beside. Prints the
medians, milliseconds a test and the ratios. Exit code 1 if the ratio to the bare one is above 1.2.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.2

TESTS = """
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_set_and_get({fixture}, number):
    {fixture}.set("key", number)
    assert {fixture}.get("key") == b"%d" % number
"""

BARE = """
import socket, subprocess, time
import pytest, redis

@pytest.fixture(scope="session")
def bare_server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [{binary!r}, "--port", str(port), "--bind", "127.0.0.1", "--save", ""], stdout=subprocess.DEVNULL
    )
    client = redis.Redis(port=port)
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.002)
    yield client
    client.close()
    process.kill()
    process.wait()

@pytest.fixture
def bare_client(bare_server):
    bare_server.flushdb()
    return bare_server
"""


def run_seconds(folder: Path, *options: str) -> float:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def contenders(binary: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """For each contender: its fixture, and the pytest options that enable it."""
    found = {
        "redisq_client": ("redisq_client", ("-p", "pytest_redisq.plugin", f"--redisq-binary={binary}")),
        "bare FLUSHDB": ("bare_client", ("-p", "bare")),
    }
    if importlib.util.find_spec("pytest_redis"):
        found["pytest-redis"] = ("redisdb", ("-p", "pytest_redis.plugin", f"--redis-exec={binary}"))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        parser.error("no redis-server or valkey-server on PATH")
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for contender, (fixture, _) in contenders(binary).items():
            folder = Path(name) / contender
            folder.mkdir()
            (folder / "test_isolation.py").write_text(TESTS.format(tests=arguments.tests, fixture=fixture))
            (folder / "bare.py").write_text(BARE.format(binary=binary))
        os.environ["PYTHONPATH"] = os.pathsep.join([".", *filter(None, [os.environ.get("PYTHONPATH")])])
        for _ in range(arguments.rounds):
            for contender, (_, options) in contenders(binary).items():
                times.setdefault(contender, []).append(run_seconds(Path(name) / contender, *options))
    bare = times["bare FLUSHDB"]
    for contender, seconds in times.items():
        ratio = statistics.median(one / other for one, other in zip(seconds, bare, strict=True))
        print(
            f"{contender:14} median {statistics.median(seconds):6.3f} s, least {min(seconds):6.3f} s for the run"
            f"   {min(seconds) / arguments.tests * 1000:5.2f} ms a test, start included   {ratio:.2f} x bare"
        )
    ours = statistics.median(one / other for one, other in zip(times["redisq_client"], bare, strict=True))
    return int(ours > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
