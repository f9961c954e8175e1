"""Commands on the user's own server, ended by every signal: then no key of ours is there, and theirs are as before.

A few endings are in the fast suite, all others in the slow one.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from pytest_redisq.servers import Server, start
from pytest_redisq.servers.key_lease import KeyLease
from tests.attack import ENDINGS, Attacked
from tests.foreign_keys import contents, populate
from tests.support import eventually, local

#: How soon after a command's end its keys must be gone, in seconds.
GONE_SECONDS = 2.0

#: Each test makes keys by the fixture's client, and by a script of the user's, which knows only URL and prefix.
SUITE = """
import pytest, subprocess, sys

SCRIPT = "import redis, sys; redis.Redis.from_url(sys.argv[1]).rpush(sys.argv[2] + 'script', 'a')"

@pytest.mark.parametrize("number", range(20))
def test_works_on(redisq, number):
    redisq.client.rpush("jobs", "a")
    subprocess.run([sys.executable, "-c", SCRIPT, redisq.url, redisq.address.prefix], check=True)
    if number > 2:
        redisq.client.blpop("never", 60)
"""

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
LOAD = [sys.executable, "-m", "pytest_redisq", "load"]

COMMANDS = {
    "pytest": [*PYTEST],
    "xdist": [*PYTEST, "-n", "2"],
    "load": [*LOAD, "blpop-workers", "--time", "60s", "--rate", "500", "--consumers", "4"],
    "processes": [*LOAD, "drain", "--time", "60s", "--rate", "500", "--processes", "2"],
    "own queue": [*LOAD, str(Path(__file__).parents[1] / "loadtests/own_queue.py"), "--time", "60s", "--rate", "200"],
    "demo": [sys.executable, "-m", "pytest_redisq", "demo"],
}


@pytest.fixture(scope="module")
def theirs() -> Iterator[Server]:
    """The user's own server with ten thousand keys."""
    server = start(local())
    populate(server)
    yield server
    server.stop()


@pytest.fixture
def attack(theirs: Server, tmp_path: Path) -> Iterator[Callable[[str, str], Attacked]]:
    """Start a command on their server; what is left of it when the test has failed is killed."""
    begun: list[Attacked] = []

    def attack(command: str, ending: str) -> Attacked:
        place = tmp_path / str(len(begun))
        place.mkdir()
        (place / "test_suite.py").write_text(SUITE)
        (place / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function")
        words = [*COMMANDS[command], *([str(place)] if command in ("pytest", "xdist") else [])]
        begun.append(Attacked(place, words, ending=ending, REDISQ_SERVER=theirs.url))
        return begun[-1]

    yield attack
    for each in begun:
        each.kill()
        each.process.wait()


def _ours(client: redis.Redis, before: dict[tuple[int, bytes], tuple[bytes, int]]) -> set[bytes]:
    return {key for key in client.keys("redisq:*") if (0, key) not in before}


def _attack(
    begin: Callable[[str, str], Attacked], theirs: Server, command: str, ending: str, *, keys: int = 0, pushes: int = 0
) -> None:
    """End it when so many of its keys are there, and so many messages have been sent.

    Its keys and its processes are gone within `GONE_SECONDS`. It is tried three times at most: a busy machine may
    stall any one.
    """
    taken = [0.0]
    for _ in range(3):
        taken.append(_seconds_until_gone(begin, theirs, command, ending, keys=keys, pushes=pushes))
        if taken[-1] < GONE_SECONDS:
            return
    raise AssertionError(f"three times its keys and processes were not gone within {GONE_SECONDS:g} s: {taken[1:]}")


def _seconds_until_gone(
    begin: Callable[[str, str], Attacked], theirs: Server, command: str, ending: str, *, keys: int, pushes: int
) -> float:
    """How long its keys and its processes outlived it."""
    before = contents(theirs)
    attacked = begin(command, ending)

    def begun() -> bool:
        assert attacked.process.poll() is None, attacked.output.read_text()
        sent = client.info("commandstats").get("cmdstat_rpush", {}).get("calls", 0)
        return sent >= pushes and len(_ours(client, before)) >= keys

    with theirs.client() as client:
        client.config_resetstat()
        eventually(begun, 60)
        attacked.end()
        ended = time.monotonic()
        eventually(lambda: not _ours(client, before), 30)
    # The cleaner goes on for a while, since a script of the run may write yet.
    eventually(lambda: not attacked.running(), 30)
    gone = time.monotonic()
    assert contents(theirs) == before
    return gone - ended


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
def test_pytest_leaves_no_key(attack: Callable[..., Attacked], theirs: Server, ending: str) -> None:
    _attack(attack, theirs, "pytest", ending, keys=3)


def test_a_load_run_leaves_no_key(attack: Callable[..., Attacked], theirs: Server) -> None:
    _attack(attack, theirs, "load", "SIGKILL", pushes=100)


@pytest.mark.nightly
@pytest.mark.parametrize("keys", [1, 2, 3], ids=["first key", "second key", "third key"])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("command", ["pytest", "xdist", "demo"])
def test_no_ending_leaves_a_key(
    attack: Callable[..., Attacked], theirs: Server, command: str, ending: str, keys: int
) -> None:
    _attack(attack, theirs, command, ending, keys=keys)


@pytest.mark.nightly
@pytest.mark.parametrize("moment", [{"keys": 1}, {"pushes": 100}], ids=["first key", "at work"])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("command", ["load", "processes", "own queue"])
def test_no_ending_of_a_load_run_leaves_a_key(
    attack: Callable[..., Attacked], theirs: Server, command: str, ending: str, moment: dict[str, int]
) -> None:
    _attack(attack, theirs, command, ending, **moment)


@pytest.mark.nightly
def test_what_a_crash_of_the_machine_leaves_is_deleted_by_the_next_run(
    attack: Callable[..., Attacked], theirs: Server
) -> None:
    """Everything is killed at once, the cleaner too; the lease, which then runs out, is all that ends the keys."""
    before = contents(theirs)
    crashed = attack("pytest", "SIGKILL")
    with theirs.client() as client:
        eventually(lambda: len(_ours(client, before)) >= 3, 60)
        crashed.process.send_signal(signal.SIGSTOP)
        eventually(lambda: "T" in Path(f"/proc/{crashed.process.pid}/stat").read_text())
        for pid, command in crashed.running().items():
            if "key_cleaner.py" in command:
                os.kill(pid, signal.SIGKILL)
        crashed.kill()
        crashed.process.wait()
        (lease,) = (key for key in _ours(client, before) if key.endswith(b":~lease"))
        next_run = KeyLease(theirs.url, "redisq:0123456789abcdef:")
        assert next_run.take() == []
        client.pexpire(lease, 1)
        eventually(lambda: not client.exists(lease))
        assert next_run.close() == []
        (told,) = next_run.take()
        assert f" keys {lease.decode().removesuffix('~lease')}*, left by process {crashed.process.pid} on " in told
        assert next_run.close() == []
    assert contents(theirs) == before
