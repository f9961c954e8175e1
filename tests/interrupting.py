"""Pytest runs that are interrupted by one Ctrl-C, at a random moment, and what became of them.

As a program: python -m tests.interrupting [TIMES] [SEED] [KIND…]
"""

from __future__ import annotations

import contextlib
import os
import pty
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import left_behind
from tests.support import eventually

#: What all kinds have in common: each test notes when it begins.
CONFTEST = """
import os, pathlib, pytest, time

def pytest_generate_tests(metafunc):
    metafunc.parametrize("number", range(80))

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logstart(nodeid):
    with open(os.environ["BEGUN"], "a") as file:
        file.write(f"{time.monotonic()}\\n")
"""

#: A test of each kind; it runs for longer than the longest wait.
KINDS = {
    "run-thread": """
def test(redisq, number):
    redisq.run(redisq.list("jobs"), producers=2, consumers=2, messages=20).verify("at-most-once")
""",
    "run-asyncio": """
def test(redisq, number):
    queue = redisq.reliable_list("jobs")
    redisq.run(queue, producers=2, consumers=2, messages=20, workers="asyncio").verify("at-least-once")
""",
    "run-process": """
def test(redisq, number):
    redisq.run(redisq.list("jobs"), producers=2, consumers=2, messages=20, workers="process").verify("at-most-once")
""",
    "run-spawn": """
def test(redisq, number):
    redisq.run(redisq.list("jobs"), messages=20, workers="spawn").verify("at-most-once")
""",
    "run-pool": """
def test(redisq, number):
    redisq.run(redisq.list("jobs"), messages=20, workers="pool").verify("at-most-once")
""",
    "run-executor": """
def test(redisq, number):
    redisq.run(redisq.list("jobs"), messages=20, workers="executor").verify("at-most-once")
""",
    "explore-threads": """
def test(redisq, number):
    queue = redisq.reliable_list("jobs")
    redisq.explore(queue, contract="at-least-once", schedules=20, faults="kill", seed=number)
""",
    "explore-coroutines": """
def test(redisq, number):
    queue = redisq.list("jobs")
    redisq.explore(queue, contract="at-most-once", schedules=20, is_async=True, faults="kill", seed=number)
""",
    "explore-processes": """
import redis

def take(url):
    with redis.Redis.from_url(url) as client:
        client.rpush("a", "b")
        return client.lpop("a")

def test(redisq, number):
    def scenario(world):
        for _ in range(2):
            world.actor(take, gets="url", process="forkserver")
        world.run()
    redisq.explore(scenario, schedules=2, seed=number)
""",
    "load": """
def test(redisq, number):
    redisq.load("blpop-workers", seconds=1.0, consumers=4)
""",
    "load-faults": """
@pytest.mark.redisq_dedicated
def test(redisq, number):
    redisq.load("blpop-workers", seconds=1.0, consumers=4, faults=["pause:server@0.2s+0.3s"])
""",
    "conformance": """
def test(redisq, number):
    redisq.conformance(redisq.list("jobs"), contract="at-most-once")
""",
    "hypothesis": """
from hypothesis import given, settings, strategies as st

@settings(deadline=None, max_examples=30, database=None)
@given(bodies=st.lists(st.binary(max_size=20)))
def test(redisq_session, number, bodies):
    with redisq_session.example() as redisq:
        for body in bodies:
            redisq.client.rpush("jobs", body)
        redisq.run(redisq.list("more"), messages=2).verify("at-most-once")
""",
    "drain": """
def test(redisq, number, tmp_path):
    for _ in range(10):
        with redisq.client.pipeline() as pipe:
            for n in range(2000):
                pipe.rpush("jobs", f"body {n}")
            pipe.execute()
    redisq.drain_to_file("jobs", tmp_path / "jobs.gz", chunk=100)
    redisq.client.rpush("jobs", *range(1000))
    for chunk in redisq.drain("jobs", chunk=10):
        pass
""",
    "servers": """
@pytest.mark.redisq_dedicated(persistence="aof")
def test(redisq, number):
    redisq.client.rpush("jobs", "a")
    redisq.server.restart()
    redisq.server.kill()
    redisq.server.revive()
""",
    "faults": """
@pytest.mark.redisq_dedicated(persistence="aof")
def test(redisq, number):
    redisq.run(redisq.reliable_list("jobs"), messages=40, consumers=2, workers="process", faults=[
        redisq.kill_consumer(after_messages=10), redisq.restart_server(after_messages=20)])
""",
    "async-tests": """
import asyncio

async def test(redisq, number):
    async with redisq.reliable_list("jobs").bind(redisq.async_client) as queue:
        for n in range(20):
            await queue.put(b"a")
            delivery = await queue.get(1)
            await queue.ack(delivery)
        await queue.get(0.05)
""",
    "queues": """
def test(redisq, number):
    for make in (redisq.list, redisq.reliable_list, lambda name: redisq.stream(name, "workers")):
        with make(f"jobs-{make}").bind(redisq.client) as queue:
            for n in range(10):
                queue.put(b"a")
                queue.ack(queue.get(1))
            queue.get(0.05)
""",
    "clients": """
import gc

def test(redisq, number):
    for _ in range(30):
        clients = [redisq.server.client() for _ in range(5)]
        for client in clients:
            client.ping()
        del clients, client
        gc.collect()
""",
}


@dataclass
class Outcome:
    """The result of an interrupted run. `later`: how many tests began after the interrupt."""

    kind: str
    delay: float
    whole_group: bool
    status: int
    output: str
    later: int
    left: list[str]
    seconds: float

    @property
    def wrong(self) -> str:
        """The problem of the result; empty: none."""
        faults = []
        # Python itself ends by SIGINT where the interrupt came up in `exec` of a text, as in making a dataclass.
        if self.status not in (2, -signal.SIGINT):
            faults.append(f"status {self.status}")
        if "KeyboardInterrupt" not in self.output:
            faults.append("no KeyboardInterrupt told")
        if self.later:
            faults.append(f"{self.later} tests began afterwards")
        if self.left:
            faults.append(f"left {self.left}")
        return ", ".join(faults)


def interrupted(kind: str, delay: float, place: Path, *, whole_group: bool) -> Outcome:
    """Start a run of that kind, interrupt it `delay` seconds after its first test has begun, and see."""
    (place / "test_suite.py").write_text("import pytest\n" + KINDS[kind].replace("def test(", "def test_it("))
    (place / "conftest.py").write_text(CONFTEST)
    (place / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\nasyncio_mode = auto\n")
    begun = place / "begun"
    temporary = place / "tmp"
    temporary.mkdir()
    environ = os.environ | {"TMPDIR": str(temporary), "BEGUN": str(begun), "REDISQ_SERVER": "process"}
    environ.pop("REDISQ_IMAGE", None)
    environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take longer to load than the run takes
    plugins = ["-p", "pytest_redisq.plugin", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider"]
    words = [sys.executable, "-m", "pytest", "-q", "-x", *plugins, "--basetemp", str(place / "base")]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _LEADER, *words],
        cwd=place,
        env=environ,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    output: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(master, 65536):
                output.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        eventually(lambda: begun.exists() or process.poll() is not None, 60)
        time.sleep(delay)
        at = time.monotonic()
        if process.poll() is None:
            if whole_group:
                os.write(master, b"\x03")
            else:
                os.kill(process.pid, signal.SIGINT)
        try:
            status = process.wait(30)
        except subprocess.TimeoutExpired:
            status = -99
        took = time.monotonic() - at
        later = [float(line) for line in begun.read_text().split() if float(line) > at + 0.05] if begun.exists() else []
        left: list[str] = []
        try:
            eventually(lambda: not left_behind(temporary) and not list(temporary.glob("[!p]*")), 2.5)
        except AssertionError:
            left = left_behind(temporary) + [str(each) for each in temporary.glob("*")]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(5)
        os.close(master)
    return Outcome(kind, delay, whole_group, status, b"".join(output).decode(errors="replace"), len(later), left, took)


#: The session's leader takes the terminal, as a shell's child has it, and becomes pytest.
_LEADER = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGINT, signal.default_int_handler); os.execv(sys.argv[1], sys.argv[1:])"
)


def attack(times: int, seed: int, kinds: list[str]) -> Iterator[Outcome]:
    chance = random.Random(seed)
    for number in range(times):
        kind = kinds[number % len(kinds)]
        with tempfile.TemporaryDirectory(prefix="rqi-", ignore_cleanup_errors=True) as place:
            yield interrupted(kind, chance.uniform(0, 1.5), Path(place), whole_group=chance.random() < 0.5)


def main() -> None:
    times, seed = int(sys.argv[1]), int(sys.argv[2])
    wrong = 0
    for number, outcome in enumerate(attack(times, seed, sys.argv[3:] or list(KINDS)), 1):
        group = "terminal" if outcome.whole_group else "alone"
        said = outcome.wrong or "right"
        took = f"at {outcome.delay:.3f} s, took {outcome.seconds:.2f} s"
        print(f"{number} {outcome.kind} {group} {took}: {said}", flush=True)
        if outcome.wrong:
            wrong += 1
            print("    " + outcome.output.replace("\n", "\n    "), flush=True)
    print(f"{times} interrupts, seed {seed}: {wrong} wrong")


if __name__ == "__main__":
    main()
