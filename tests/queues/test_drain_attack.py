"""Drains that are ended at random moments: by any signal, by their server's death, by a full disk; on two hosts, of two
lists, into one file, while others push.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from pytest_redisq.queues import drain_to_file
from pytest_redisq.queues.drain_journal import SUFFIX
from pytest_redisq.servers import Server, start
from tests.queues.test_drain_file import content
from tests.support import eventually, local

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

SUFFIXES = ["out.txt", "out.gz", "out.zst"]

#: Of each attack, so many; DRAIN_ATTACKS sets another number for a thorough run.
ROUNDS = int(os.environ.get("DRAIN_ATTACKS", "6"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: `redisq drain`, which waits for the disk more or less often.
CODE = """
import sys
from pytest_redisq.queues import drain_file
drain_file.SYNC_BYTES = int(sys.argv.pop(1))
from pytest_redisq.cli import main
main(["drain", *sys.argv[1:], "--chunk", "1000"])
"""


def words(url: str, key: str, path: Path, chance: random.Random) -> list[str]:
    sync_bytes = str(chance.choice([1, 100_000, 2**24]))
    return [sys.executable, "-c", CODE, sync_bytes, key, "--to", str(path), "--url", str(url)]


def on_a_host(number: int) -> list[str]:
    """A command that starts a program with another host name in its own network; skips if that is not permitted."""
    host = ["unshare", "--uts", "--net", "sh", "-c", f'hostname host-{number}; exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*host, "true"], capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED on two hosts: unshare --uts --net is not permitted here")
    return host


class Pushed:
    """Different elements, and the drains that took them."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._numbers = itertools.count()
        self.elements: list[bytes] = []

    def push(self, client: redis.Redis, key: str, count: int) -> None:
        more = [
            b"%s-%d-%s" % (key.encode(), next(self._numbers), self._chance.randbytes(16).hex().encode())
            for _ in range(count)
        ]
        client.rpush(key, *more)
        self.elements += more


@contextmanager
def producing(server: Server, pushed: Pushed) -> Iterator[None]:
    """Meanwhile another client pushes to both lists."""
    over = threading.Event()

    def produce() -> None:
        with server.client() as client:
            for key in itertools.cycle("ab"):
                pushed.push(client, key, 50)
                if over.wait(0.002):
                    return

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        yield
    finally:
        over.set()
        producer.join()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def ended(
    command: list[str],
    path: Path,
    chance: random.Random,
    end: Callable[[subprocess.Popen[str]], None],
    statuses: tuple[int, ...] = (0, 1, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP),
) -> None:
    """The drain is ended when the file has grown by so much, if it has not come to its end by then."""
    enough = size(path) + chance.randrange(0, 600_000)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        eventually(lambda: process.poll() is not None or size(path) >= enough, 60)
        end(process)
        told, _ = process.communicate(timeout=60)
    assert "Traceback" not in told
    assert process.returncode in statuses, told


def check(client: redis.Redis, path: Path, pushed: Pushed) -> None:
    """The lists are drained to their ends: each element is in the file once, and nothing else is anywhere."""
    assert sorted(drained_to_the_end(client, path)) == sorted(pushed.elements)


def drained_to_the_end(client: redis.Redis, path: Path, *, take_over: bool = False) -> list[bytes]:
    """The file's lines after both lists were drained into it. Nothing else is left anywhere."""
    held = [each for key in "ab" for each in drain_to_file(client, key, path, take_over=take_over).held]
    assert held == []
    assert list(client.scan_iter()) == []
    assert not path.with_name(path.name + SUFFIX).exists()
    tester = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    if tester and shutil.which(tester):
        subprocess.run([tester, "-t", path], check=True, capture_output=True)
    return content(path).split(b"\n")[:-1]


@pytest.mark.parametrize("name", SUFFIXES)
@pytest.mark.parametrize("hosts", [False, True], ids=["one host", "two hosts"])
def test_no_signal_loses_or_doubles_an_element(
    client: redis.Redis, server: Server, tmp_path: Path, name: str, hosts: bool
) -> None:
    path, chance = tmp_path / name, random.Random(f"{name} {hosts}")
    pushed = Pushed(chance)
    with producing(server, pushed):
        for turn in range(ROUNDS):
            key = chance.choice("ab")
            pushed.push(client, key, 9000)
            wrap = on_a_host(turn % 2) if hosts else []
            url = server.local_url if hosts else server.url
            ended(
                [*wrap, *words(url, key, path, chance)],
                path,
                chance,
                lambda process: process.send_signal(chance.choice(SIGNALS)),
            )
    check(client, path, pushed)


@pytest.fixture
def mortal() -> Iterator[Server]:
    """A server that keeps on disk what it has answered."""
    server = start(local(persistence="aof", server_args=("--appendfsync", "always")))
    yield server
    server.stop()


@pytest.mark.parametrize("name", SUFFIXES)
@pytest.mark.parametrize("back", ["at once", "for the next drain"])
def test_no_death_of_the_server_loses_or_doubles_an_element(
    mortal: Server, tmp_path: Path, name: str, back: str
) -> None:
    path, chance = tmp_path / name, random.Random(f"{name} {back}")
    pushed = Pushed(chance)

    def end(process: subprocess.Popen[str]) -> None:
        mortal.kill()
        if back == "at once":
            mortal.revive()
        elif chance.random() < 0.5:
            process.kill()

    for _ in range(ROUNDS):
        key = chance.choice("ab")
        with mortal.client() as client:
            pushed.push(client, key, 9000)
        ended(words(mortal.url, key, path, chance), path, chance, end)
        mortal.revive()
    with mortal.client() as client:
        check(client, path, pushed)


class Forgetful:
    """A server that may lose what it has not synced to its disk, as one with `appendfsync everysec` does."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        assert server.supervisor is not None
        self.server = server
        self._chance = chance
        [self._log] = server.supervisor.directory.glob("data/appendonlydir/*.incr.aof")
        self._synced = 0

    def push(self, pushed: Pushed, key: str) -> None:
        """Push elements that survive any crash."""
        self.server.config("appendfsync", "always")
        with self.server.client() as client:
            pushed.push(client, key, 9000)
        self._synced = self._log.stat().st_size
        self.server.config("appendfsync", "everysec")

    def crash(self) -> None:
        """The server is killed, and its log ends after the last push, or after any command behind it.

        It does not end within a command: if that is in a transaction, Redis 7.0 keeps the log's MULTI without an EXEC,
        and loses at its next start what it has written behind it.
        """
        self.server.kill()
        commands = re.finditer(rb"\*[0-9]+\r\n\$", self._log.read_bytes()[self._synced :])
        ends = [self._synced + command.start() for command in commands]
        os.truncate(self._log, self._chance.choice([self._synced, self._chance.choice([self._synced, *ends])]))

    def come_back(self, path: Path) -> set[bytes]:
        """Start the server again. Returns the elements that a drain may write twice.

        These are the elements that are claimed no more, and those of claims that `path`'s journal knows as finished.
        """
        self.server.revive()
        unfinished = unfinished_claims(path)
        with self.server.client() as client:
            keys = ["a", "b"]
            for key in "ab":
                claims = client.hkeys(f"{key}:drains:{{{key}}}")
                keys += [f"{key}:drain:{each.decode()}:{{{key}}}" for each in claims if each.decode() not in unfinished]
            return {element for key in keys for element in client.lrange(key, 0, -1)}


def unfinished_claims(path: Path) -> set[str]:
    """The claims that the journal of the file at `path` knows, without those whose elements were all safe."""
    journal = path.with_name(path.name + SUFFIX)
    found: set[str] = set()
    for line in journal.read_text().splitlines() if journal.exists() else []:
        match json.loads(line):
            case {"claim": name}:
                found.add(name)
            case {"finished": name} | {"safe": name, "left": 0}:
                found.discard(name)
    return found


@pytest.mark.parametrize("name", SUFFIXES)
@pytest.mark.parametrize("back", ["at once", "for the next drain"])
def test_a_server_that_loses_its_last_writes_loses_no_element(tmp_path: Path, name: str, back: str) -> None:
    """An element comes twice at most where the server has forgotten that it was claimed."""
    path, chance = tmp_path / name, random.Random(f"{name} {back}")
    pushed, twice = Pushed(chance), set[bytes]()
    server = start(local(persistence="aof"))
    try:
        forgetful = Forgetful(server, chance)

        def end(process: subprocess.Popen[str]) -> None:
            nonlocal twice
            if back == "at once":  # for the drain, which then goes on
                process.send_signal(signal.SIGSTOP)
                forgetful.crash()
                twice |= forgetful.come_back(path)
                process.send_signal(signal.SIGCONT)
                return
            forgetful.crash()
            if chance.random() < 0.5:
                process.kill()

        for _ in range(ROUNDS):
            key = chance.choice("ab")
            forgetful.push(pushed, key)
            ended(words(server.url, key, path, chance), path, chance, end, (0, 1, 3, -signal.SIGKILL))
            twice |= forgetful.come_back(path)
        with server.client() as client:
            # A claim may have come back after its drain's end, with its lease.
            lines = Counter(drained_to_the_end(client, path, take_over=True))
    finally:
        server.stop()
    assert set(lines) == set(pushed.elements)
    assert {each for each, count in lines.items() if count > 1} <= twice


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which is soon full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED with a full disk: no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("name", SUFFIXES)
def test_no_full_disk_loses_or_doubles_an_element(client: redis.Redis, server: Server, disk: Path, name: str) -> None:
    """It is full at any byte of the file or of its journal, and a drain may be killed on it."""
    path, chance = disk / name, random.Random(name)
    pushed = Pushed(chance)
    pages = 4  # each file takes whole pages
    for turn in range(2 * ROUNDS):
        key = chance.choice("ab")
        pushed.push(client, key, 9000)
        pages += chance.randrange(0, 40)
        subprocess.run(["mount", "-o", f"remount,size={pages * 4}k", str(disk)], check=True)
        ended(
            words(server.url, key, path, chance),
            path,
            chance,
            lambda process: process.kill() if turn % 2 else None,  # noqa: B023
        )
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    check(client, path, pushed)
    assert os.listdir(disk) == [name]


def test_a_disk_without_room_for_a_journal_changes_nothing(client: redis.Redis, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=2", str(disk)], check=True)  # the folder, and the file
    client.rpush("a", "1", "2")
    with pytest.raises(OSError, match="No space left on device"):
        drain_to_file(client, "a", disk / "out.txt")
    assert client.lrange("a", 0, -1) == [b"1", b"2"]
    assert list(client.scan_iter()) == [b"a"]
