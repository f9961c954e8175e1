"""Drains that are ended at random moments, by any signal, on two hosts, of two lists, into one file."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from pytest_redisq.queues import drain_to_file
from pytest_redisq.servers import Server
from tests.queues.test_drain_file import SUFFIXES, content
from tests.support import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = 6
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

CODE = """
import redis, sys
from pytest_redisq.queues import drain_to_file, drain_file
url, key, path, sync_bytes = sys.argv[1:]
drain_file.SYNC_BYTES = int(sync_bytes)
drain_to_file(redis.Redis.from_url(url), key, path, chunk=1000)
"""


def on_a_host(number: int) -> list[str]:
    """What starts a program under another host name; a skip where that is not permitted."""
    words = ["unshare", "--uts", "sh", "-c", f'hostname host-{number}; exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED on two hosts: unshare --uts is not permitted here")
    return words


def one_that_is_ended(words: list[str], path: Path, chance: random.Random) -> None:
    """It is ended when the file has grown by so much, if it has not come to its end by then."""
    enough = (path.stat().st_size if path.exists() else 0) + chance.randrange(1, 600_000)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: process.poll() is not None or (path.exists() and path.stat().st_size >= enough), 60)
        process.send_signal(chance.choice(SIGNALS))
        process.wait(60)


@pytest.mark.parametrize("name", SUFFIXES)
@pytest.mark.parametrize("hosts", [False, True], ids=["one host", "two hosts"])
def test_nothing_is_lost_or_doubled(
    client: redis.Redis, server: Server, tmp_path: Path, name: str, hosts: bool
) -> None:
    path, chance = tmp_path / name, random.Random(f"{name} {hosts}")
    wrap: Callable[[int], list[str]] = on_a_host if hosts else lambda _: []
    numbers, pushed = itertools.count(), list[bytes]()
    for turn in range(ROUNDS):
        key = chance.choice("ab")
        elements = [
            b"%s-%d-%s" % (key.encode(), next(numbers), chance.randbytes(16).hex().encode()) for _ in range(9000)
        ]
        client.rpush(key, *elements)
        pushed += elements
        sync_bytes = chance.choice([1, 100_000, 2**24])
        words = [sys.executable, "-c", CODE, str(server.url), key, str(path), str(sync_bytes)]
        one_that_is_ended([*wrap(turn % 2), *words], path, chance)
    held = [each for key in "ab" for each in drain_to_file(client, key, path).held]
    assert held == []
    assert sorted(content(path).split(b"\n")[:-1]) == sorted(pushed)
    assert list(client.scan_iter()) == []
    if path.suffix != ".txt":
        tester = "gzip" if path.suffix == ".gz" else "zstd"
        if shutil.which(tester):
            subprocess.run([tester, "-t", path], check=True, capture_output=True)
