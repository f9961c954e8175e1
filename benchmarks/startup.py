"""The cost of a server in a test run: from the start of pytest to the first reply, and for each isolated test.

    python benchmarks/startup.py [--rounds 15] [--tests 500] [--binary redis-server] [--peers FOLDER]

Runs whole pytest processes that load only the plugins of their variant. The variants alternate, so that a busy machine
slows all of them:

* `bare`: a session fixture of ten lines that starts the binary, pings it, and gives each test a FLUSHDB
* `redisq`: our `redisq_client`, on a process of the same binary
* `pytest-redis`: its `redisdb`, if it is installed, here or in FOLDER (`pip install --target FOLDER pytest-redis`)

Prints medians and ratios to `bare`. Exit code 1 if the start is above 1.15 or a test above 1.2, or pytest-redis is
faster in either.
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
from dataclasses import dataclass
from pathlib import Path

START_LIMIT = 1.15
TEST_LIMIT = 1.2

BARE = """
import shutil, socket, subprocess, tempfile, time
import pytest, redis

@pytest.fixture(scope="session")
def server():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = tempfile.mkdtemp()
    words = [{binary!r}, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", place]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.005)
    yield client
    client.close()
    process.kill()
    process.wait()
    shutil.rmtree(place)

@pytest.fixture
def client(server):
    server.flushdb()
    return server
"""

TESTS = """
import os, time
import pytest

def test_first(request):
    client = request.getfixturevalue({fixture!r})
    client.set("key", "value")
    with open("first", "w") as file:
        file.write(str(time.time_ns()))

@pytest.mark.parametrize("number", range({tests}))
def test_each({fixture}, number):
    {fixture}.set("key", number)
    assert {fixture}.get("key") == b"%d" % number
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One variant: a way to have a server in a test."""

    name: str
    fixture: str
    options: tuple[str, ...] = ()
    conftest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Milliseconds to the first answer, and of each further test."""

    start: float
    test: float


def ways(binary: str, peers: str) -> list[Way]:
    found = [
        Way(name="bare", fixture="client", conftest=BARE.format(binary=binary)),
        Way(
            name="redisq",
            fixture="redisq_client",
            # After a space, pytest would treat the path as a test path when it looks for its root, and read /tmp.
            options=("-p", "pytest_redisq.plugin", "--redisq-server=process", f"--redisq-binary={binary}"),
        ),
    ]
    if peers:
        sys.path.append(peers)
    if importlib.util.find_spec("pytest_redis"):
        options = ("-p", "pytest_redis.plugin", f"--redis-exec={binary}")
        found.append(Way(name="pytest-redis", fixture="redisdb", options=options))
    return found


def measure(way: Way, tests: int, peers: str) -> Cost:
    """One pytest process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "conftest.py").write_text(way.conftest)
        (folder / "test_cost.py").write_text(TESTS.format(fixture=way.fixture, tests=tests))
        (folder / "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *way.options]
        environ = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": peers}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)  # bytecode is compiled before the measurement, as when installed
        began = time.time_ns()
        subprocess.run(command, cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL)
        ended = time.time_ns()
        first = int((folder / "first").read_text())
    return Cost(start=(first - began) / 1e6, test=(ended - first) / 1e6 / max(tests, 1))


def report(costs: dict[str, list[Cost]]) -> bool:
    """Print the table; returns whether all limits hold."""
    medians = {
        name: Cost(start=statistics.median(c.start for c in some), test=statistics.median(c.test for c in some))
        for name, some in costs.items()
    }
    bare, ours = medians["bare"], medians["redisq"]
    print(f"{'':14} {'to the first answer':>22} {'per test':>18}")
    for name, cost in medians.items():
        start, test = cost.start / bare.start, cost.test / bare.test
        print(f"{name:14} {cost.start:12.1f} ms ({start:5.2f}) {cost.test:8.3f} ms ({test:5.2f})")
    peer = medians.get("pytest-redis")
    faster = peer is None or (ours.start < peer.start and ours.test < peer.test)
    return ours.start <= START_LIMIT * bare.start and ours.test <= TEST_LIMIT * bare.test and faster


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--binary", default="redis-server")
    parser.add_argument("--peers", default="", metavar="FOLDER")
    options = parser.parse_args()
    binary = shutil.which(options.binary)
    if not binary:
        parser.error(f"there is no {options.binary} on PATH; install one, or give --binary PATH")
    candidates = ways(binary, options.peers)
    costs: dict[str, list[Cost]] = {way.name: [] for way in candidates}
    for way in candidates:
        measure(way, 1, options.peers)  # compiles
    for _ in range(options.rounds):
        for way in candidates:
            costs[way.name].append(measure(way, options.tests, options.peers))
    return int(not report(costs))


if __name__ == "__main__":
    sys.exit(main())
